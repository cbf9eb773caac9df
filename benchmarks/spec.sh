#!/usr/bin/env bash
# For other scripts: what a SYSTEM is, and its run.
# A SYSTEM is a preset, or preset+VARIANT:name=value,... for an ablation.
# Reads $benchmark and $seed; sets $change, $name, $system, $variant, $run and
# $fields, what the config is told.
# shellcheck disable=SC2034,SC2154  # for who reads this file, and by them
read_spec() {
    change=${1#*:}
    [[ $1 == *:* ]] || change=
    name=${1%%:*}
    system=${name%%+*}
    variant=${name#"$system"}
    run=runs/$benchmark-$name-s$seed
    fields=system=$system,seed=$seed${change:+,$change}
}
