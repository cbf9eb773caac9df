"""Every config field with its default; comments list the choices."""

from __future__ import annotations

from typing import Any

FIELDS: dict[str, Any] = {
    "system": "",
    "data": {
        "name": "auto",  # or one of those in config.py
        "dir": "",  # where to look first; see README for the order
        "download": False,  # agree to fetch the original archive
        "split": "animals",  # or another of data.esc.SPLITS
        "fold": 1,  # of the classes of intents, 1 to 5; 0: all
        "encoder": "ngrams",  # of texts, or that of a folder; see data.texts
        "size": 384,  # numbers of a text: n-grams, tokens, or of a vector
        "tokens": False,  # texts as the encoder's tokens: net.kind=sentence
        "label_names": False,  # names of intents are examples, too
        "train": "",  # languages of hate speech, with "+" between them
        "validation": "",
        "test": "",
        "limit": 0,  # texts per class of a language to train on; 0: all
        "recording": "",  # clips: regular expression with one group
        "loader": "device",  # device | tfdata
        "way": 5,
        "shot": 1,
        "query": 5,
        "min_way": 0,
        "min_shot": 0,  # 0: always way and shot
        "rate": 16000,
        "window": 1024,
        "hop": 512,
        "mels": 128,
        "seconds": 5.0,
        "top_db": 80.0,
        "rows": 32,
        "columns": 40,
        "channels": 1,
        "level": "log",  # log | pcen, of spectrograms
        "side": 32,  # of a cube of volumes, in cells
        "spacing": 0.0,  # mm of a cell; 0: what the data set's reader says
        "hounsfield": (-160.0, 240.0),  # window of CT
        "domains": 1,  # kinds of tasks that a task may be of
    },
    "net": {
        "kind": "conv",  # conv | mlp | vector | ngrams | sentence | unet
        "output": "classes",  # classes | labels | numbers | voxels
        "width": 32,
        "grow": 1,  # of conv: times the channels, in each block from the third
        "blocks": 4,  # of a U-Net: resolutions
        "context": 0,  # n-grams in a window of a convolution; 0: none
        "down": "pool",  # pool | stem | stride
        "norm": "group",  # group | instance | support | none
        "residual": False,  # of a U-Net: blocks add to what they are given
        "deep": False,  # of a U-Net: coarse levels answer, too, in training
        "pretrained": "",  # its start: a run, or of texts one of pretrain
        "pool": "flat",  # flat | columns | mean
        "length": 0.0,  # of conv: that of feature vectors; 0: as they come
        "precision": "float32",  # float32 | bfloat16, of activations
    },
    "embed": {
        "kind": "none",  # none | set | blind | gradient | statistics
        "control": "none",  # none | constant | shuffled | domain
        "body": "base",  # base: features of the base network | own
        "width": 16,  # of a body of its own
        "pretrained": "",  # its start: a workdir of pretrain
        "dim": 64,
        "layers": 2,  # of the transformer over examples (regression)
        "statistics": False,  # add those of gradients and weights
        "clusters": 0,  # leaves of a tree of soft clusters; 0: none
        "reconstruct": 0.0,  # weight of the reconstruction loss
    },
    "hyper": {
        "kind": "identity",  # identity | generator | domain
        "pretrained": "",  # start of its trunk: a run of several domains
        "trunk": "transformer",  # transformer | mlp
        "head": "shared",  # shared | prototype
        "sharpness": 0.0,  # of prototypes: see heads.sharpened; 0: the sum
        "warmup": 0.0,  # share of training without the generator
        "blend": 0.0,  # share at which it is fully in
        "dim": 64,
        "layers": 2,
        "heads": 2,
        "dropout": 0.1,
        "scale": 0.1,
        "move_penalty": 0.0,
        # (regular expression on the path, family); first match wins
        "rules": (
            ("body/conv./kernel", "lowrank(2)"),
            ("body/norm.*", "affine"),
            ("head/kernel", "rows"),
        ),
    },
    "inner": {
        "steps": 3,
        "size": 0.1,
        "rule": "sgd",  # sgd | curvature | alfa
        "rates": "layer",  # learned: layer (and step), weight, task; or fixed
        "over": ".*",  # which parameters step: a regular expression
        "through": "weights",  # weights | transform | adapters
        "clip": 0.0,  # of every entry of the inner gradient; 0: none
        "fade": False,  # steps shrink to 0 while hyper.blend rises
        "unroll": 5,  # more steps are scanned: slower, in less memory
    },
    "outer": {
        "gradient": "mixed",  # plain | remat | mixed | first | reptile
        "loss": "last",  # after the last inner step | every
        "second_from": 0.0,  # share of training in first order
        "objective": "meta",  # meta | joint
        "joint_until": 0.0,  # share of training that is joint, before meta
        "domain_query": "own",  # own | other | both: whose queries
        "frozen": "",  # what of meta does not learn: a regular expression
        "rate": 1e-3,
        "warmup": 0.05,
        "floor": 0.02,
        "clip": 1.0,
        "decay": 0.0,  # weight decay of embed and hyper
        # Channel exchange; see outer.exchange.
        "exchange": {
            "kind": "none",  # none | class | task | both
            "weight": 0.1,
            "share": 0.2,  # of the channels
            "layer": 3,  # block, from 0
            "temperature": 0.2,
        },
        # Shares of the tasks; see outer.mixing.
        "shuffle": 0.0,  # whose channels are shuffled among classes
        "mix": 0.0,  # whose queries are blended with support
        # Two views of every example attract, as in pre-training.
        "auxiliary": 0.0,  # weight
        "augment": {
            "roll": 0.0,
            "time_mask": 0.0,
            "row_mask": 0.0,
            "gain": 0.0,
            "mix": 0.0,
            "reverse": 0.0,
            "shift": 0.0,
            "blend": 0.0,
            "drop": 0.0,
            "noise": 0.0,
            # Of volumes; see outer.volumes. Of all of a task alike:
            "flip": 0.0,  # probability along each axis
            "turn": 0.0,  # probability of another order of axes
            "invert": 0.0,  # probability of a negative
            # Of each volume:
            "affine": 0.0,  # rotates, scales, shears; below 1/3
            "elastic": 0.0,  # largest move, share of the side; below 1/8
            "gamma": 0.0,  # contrast: largest log of the power
        },
    },
    "pretrain": {
        "steps": 1000,
        "batch": 256,  # examples, each in two views
        "rate": 3e-3,
        "decay": 1e-4,  # weight decay
        "temperature": 0.2,
        "width": 64,  # of the projection
        "crop": 0.6,  # share of time, text or sides that a view keeps
        "time_mask": 0.2,
        "row_mask": 0.2,
        "gain": 0.3,  # of volumes: of contrast, see outer.augment.gamma
        "mix": 0.3,
        "drop": 0.0,  # largest share of n-grams that a view leaves out
    },
    # Domains that are trained together; see multimodal.
    "joint": {
        "parts": (),  # pairs (domain, "configs/FILE.py:name=value,...")
        "only": "",  # some of them, with "+" between; all if empty
        "shared": True,  # one trunk for all, or one each
        "weigh": "none",  # none | uncertainty | gradient
    },
    "train": {
        "steps": 1000,
        "tasks": 8,
        "val_every": 0.05,  # as a share of train.steps
        "val_episodes": 200,
    },
    "eval": {
        "way": 5,
        "shot": 1,
        "query": 5,
        "episodes": 1000,
        "seed": 0,
        "split": "test",
        "domain": "",  # the one to judge on, of several
        "support": "own",  # own | train | none | pseudo; see transfer
        "rounds": 3,  # of pseudo-labels
        "confidence": 0.85,  # from which a prediction is a pseudo-label
        "pseudo": 150,  # pseudo-labels per class at most
        "transductive": False,
        # The share of what the generator changes that is used; training uses
        # all of it, but for its validation tasks.
        "strength": 1.0,
        # Steps of Adam on the support set after the inner loop, how many of
        # its examples each sees (0: all), and how far volumes are bent then.
        "finetune": 0,
        "finetune_rate": 3e-3,
        "finetune_batch": 0,
        "finetune_bend": 0.0,
        "tolerance": 2.0,  # of surface Dice, in the unit of the data
    },
    "run": {
        "seed": 0,
        "chunk": 0,
        "devices": 0,
        "lowering": "auto",  # auto | patches | blocks | lax
    },
    "log": {"every": 20},
}
