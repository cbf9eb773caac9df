"""What a run starts from where not from chance: parts of earlier runs.

And the weights of a sentence encoder, which are in a folder.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from ml_collections import ConfigDict

from htmaml_jax import evaluate
from htmaml_jax.config import flat, form
from htmaml_jax.data import sentence
from htmaml_jax.errors import UserError
from htmaml_jax.nets import unet
from htmaml_jax.run import checkpoints, joint
from htmaml_jax.run import workdir as workdirs

# What decides the form of an encoder, and what it has learned to read.
_ALIKE = {
    "pictures": ("data.channels", "net.blocks", "embed.width"),
    "volumes": ("net.blocks", "embed.width"),
    "ngrams": (
        "net.kind",
        "net.width",
        "net.blocks",
        "net.context",
        "data.size",
    ),
}


def met(config: Any, splits: Any) -> list[dict[str, Any]]:
    """Lists what the starts of a run learned from, their own starts included.

    Args:
      config: of the run.
      splits: split name -> its classes.

    Returns:
      Dictionaries {"name": data.name, "train": classes}, for its record.

    Raises:
      UserError: this run holds out some of these classes or texts.
    """
    found = []
    for group in ("net", "embed", "hyper"):
        place = epath.Path(config[group].pretrained)
        # Of a folder that is none `install` says so.
        if config[group].pretrained and place.is_dir():
            earlier = _met_by(place)
            for split in ("validation", "test"):
                workdirs.refuse_met(
                    place, earlier, config.data.name, splits, split
                )
            found += earlier
    return found


def _met_by(place):
    saved = checkpoints.Checkpoints(place)
    info = saved.info("latest")
    saved.close()
    records = [info]
    if info["config"].get("joint", {}).get("parts"):
        records = [workdirs.read(place / name) for name in info["data"]]
        if None in records:
            raise UserError(
                f"{place} lacks the folder of a domain; all are needed: "
                f"{', '.join(info['data'])}."
            )
    found = []
    for record in records:
        data = record["data"]
        name = record["config"]["data"]["name"]
        classes = list(data["splits"].get("train", ()))
        found += [{"name": name, "train": classes}, *data.get("met", ())]
    return found


def install(meta: Any, config: Any) -> Any:
    """Returns meta, fresh from `Learner.init`, with a config's starts."""
    if config.net.kind == "sentence":
        meta = sentences(meta, config)
    if config.net.pretrained:
        meta = base(meta, config)
    if config.embed.pretrained:
        meta = encoder(meta, config)
    if config.hyper.pretrained:
        meta = trunk(meta, config)
    return meta


def base(meta: Any, config: Any) -> Any:
    """Returns meta with the base network of the run `net.pretrained`.

    The network at the end of that run; its head stays behind where it is of
    another form. A workdir of `pretrain` has one without a head.

    Raises:
      UserError: that folder holds no run, or a network of another form.
    """
    place = epath.Path(config.net.pretrained)
    if place.is_dir():
        saved = checkpoints.Checkpoints(place)
        info = saved.info("latest")
        saved.close()
        if "scores" in info:
            own = meta["base"]["body"]
            body = pretrained("net", "ngrams", own, config)
            return {**meta, "base": {**meta["base"], "body": body}}
    _, found, old = evaluate.restore(place, "latest")
    if "domain" in (old.hyper.kind, config.hyper.kind):
        raise UserError(
            f"net.pretrained {place}: there is one network per domain with "
            "hyper.kind=domain, none to start from."
        )
    found, own = found["base"], meta["base"]
    alike = ("norm", "length", "context")
    same = all(old.net[x] == config.net[x] for x in alike)
    plain, wanted = (
        {k: x for k, x in net["body"].items() if not k.startswith(unet.COARSE)}
        for net in (found, own)
    )
    if shapes(plain) != shapes(wanted) or not same:
        raise UserError(
            f"net.pretrained {place} has another network (net.kind="
            f"{old.net.kind}, width={old.net.width}, blocks={old.net.blocks}, "
            f"down={old.net.down}, norm={old.net.norm}, "
            f"residual={old.net.residual}, length={old.net.length}, "
            f"context={old.net.context}); make net.* and the inputs alike."
        )
    fits = shapes(found["head"]) == shapes(own["head"])
    head = (found if fits else own)["head"]
    return {**meta, "base": {"body": own["body"] | plain, "head": head}}


def sentences(meta: Any, config: Any) -> Any:
    """Returns meta with the weights of the encoder `data.encoder`."""
    found = sentence.load(config.data.encoder, config.data.size).params
    body = meta["base"]["body"]
    # Of a network per domain there are several.
    start = jax.tree.map(
        lambda x, new: jnp.broadcast_to(new, x.shape), body["encoder"], found
    )
    base = {**meta["base"], "body": {**body, "encoder": start}}
    return {**meta, "base": base}


def shapes(tree: Any) -> Any:
    """Returns a tree of parameters as one of their shapes."""
    return jax.tree.map(lambda x: x.shape, tree)


def encoder(meta: Any, config: Any) -> Any:
    """Returns meta with the encoder's start from `embed.pretrained`.

    Raises:
      UserError: see `pretrained`.
    """
    own = meta["embed"]["body"]
    kind = "volumes" if form(config.data) == "volumes" else "pictures"
    body = pretrained("embed", kind, own, config)
    return {**meta, "embed": {**meta["embed"], "body": body}}


def pretrained(group: str, kind: str, own: Any, config: Any) -> Any:
    """Returns the parameters of an encoder that `pretrain` has taught.

    Args:
      group: "net" or "embed", whose field `pretrained` names the workdir.
      kind: what the encoder reads; see `_ALIKE`.
      own: parameters like those wanted.
      config: of this run.

    Raises:
      UserError: that folder holds no encoder of this kind and size.
    """
    place = epath.Path(config[group].pretrained)
    said = f"{group}.pretrained {place}"
    if not place.is_dir():
        raise UserError(f"{said} is not a folder.")
    saved = checkpoints.Checkpoints(place)
    info = saved.info("latest")
    if "scores" not in info:
        raise UserError(
            f"{said} is no workdir of htmaml_jax.pretrain; give one."
        )
    old = flat(info["config"])
    reads = form(ConfigDict(info["config"]["data"]))
    if reads != kind:
        right = "net" if reads == "ngrams" else "embed"
        hint = "another" if right == group else f"it as {right}.pretrained"
        raise UserError(
            f"{said} holds an encoder of {reads}, not of {kind}; give {hint}."
        )
    for path in _ALIKE[kind]:
        if old[path] != (now := flat(config)[path]):
            raise UserError(
                f"{said} has {path}={old[path]}, this run {now}; make them "
                "alike."
            )
    like = jax.eval_shape(lambda: {"body": own})
    body = saved.meta("latest", like)["body"]
    saved.close()
    return body


def trunk(meta: Any, config: Any) -> Any:
    """Returns meta with the generator's trunk from `hyper.pretrained`.

    Raises:
      UserError: that folder holds no run of several domains, or a trunk of
        another size.
    """
    place = epath.Path(config.hyper.pretrained)
    if not place.is_dir():
        raise UserError(f"hyper.pretrained {place} is not a folder.")
    saved = checkpoints.Checkpoints(place)
    info = saved.info("latest")
    shared, own = joint.split(meta)
    if not shared or not info["config"].get("joint", {}).get("shared"):
        raise UserError(
            f"hyper.pretrained {place} and system {config.system} share no "
            "trunk; give a run of configs/multimodal.py, and a system with a "
            "generator."
        )
    if not info["config"]["joint"]["parts"]:
        raise UserError(
            f"hyper.pretrained {place} is a run of one domain; give one of "
            "configs/multimodal.py."
        )
    like = jax.eval_shape(lambda: {"all": {"hyper": shared}})
    trunks = saved.part("latest", "trunks", like)
    saved.close()
    return joint.merge(trunks["all"]["hyper"], own)
