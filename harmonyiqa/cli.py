"""The `harmonyiqa` command: parse, call one function, print. Errors become one line and an exit status here."""

import importlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, signature
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

from harmonyiqa import __version__
from harmonyiqa.errors import UserError
from harmonyiqa.files import resource_folder


@dataclass(frozen=True)
class Command:
    """A subcommand: the function whose signature is its command line.

    Attributes:
        help: one line for the list of commands.
        function: `module:name`, imported only when the command runs, so that `--help` stays quick.
        positional: the argument that takes bare words, if any: several where it is a list, else one.
        words: what its words are.
        lists: options that take one or more words, `--name A B C`, with their help.
        bare: whether all required arguments are bare words, in the signature's order, and no options.
    """

    help: str
    function: str
    positional: str | None = None
    words: str = "files, folders or a manifest"
    lists: Mapping[str, str] = field(default_factory=dict)
    bare: bool = False


COMMANDS: dict[str, Command] = {
    "score": Command(
        "score images, folders, a manifest or shards",
        "harmonyiqa.pipelines.score:score",
        "paths",
        "files, folders, patterns, lists (.txt), a manifest, tar shards or datasets",
    ),
    "train": Command(
        "train stage 1, 2 or AICT from a YAML file of configs/", "harmonyiqa.pipelines.train:train"
    ),
    "estimate": Command(
        "will a training run fit? memory by part, from its YAML file",
        "harmonyiqa.pipelines.estimate:estimate",
    ),
    "evaluate": Command(
        "agreement of predictions with MOS: SRCC, KRCC, PLCC", "harmonyiqa.pipelines.evaluate:evaluate"
    ),
    "convert": Command(
        "OpenGVLab's InternVL2, 2.5, 3 checkpoints -> transformers' own layout",
        "harmonyiqa.pipelines.convert:convert",
        bare=True,
    ),
    "baselines": Command(
        "score a manifest with other metrics: PSNR, SSIM, FSIM, ...", "harmonyiqa.baselines.command:baselines"
    ),
    "harmonize": Command(
        "make composites harmonious: AICT and classical methods",
        "harmonyiqa.pipelines.harmonize:harmonize",
        "paths",
        lists={"mask": "the one mask of all images, or masks and folders of masks of the same names"},
    ),
    "harmonize-eval": Command(
        "harmonized images against real photos: fMSE, MSE, PSNR, SSIM, scores",
        "harmonyiqa.pipelines.harmonize_eval:harmonize_eval",
        lists={
            "methods": "aict, copy, reinhard, ...: harmonize by these; default: the images are results already",
            "by": "with copy among the methods: split gains by these columns: source, or severity:6,12",
        },
    ),
    "tables": Command(
        "the paper's tables, published figures beside ours",
        "harmonyiqa.pipelines.tables:tables",
        lists={
            "predictions": "files of `score` or `baselines`, as FILE or ROW=FILE",
            "others": "manifests of other sets, as csiq=FILE, tid2013=FILE, kadid10k=FILE or live=FILE",
            "cross": "files cross.json that `cross` wrote, for table VI",
            "notes": "further lines of the protocol",
        },
    ),
    "cross": Command(
        "train on one set, test on others, for every pair",
        "harmonyiqa.pipelines.cross:cross",
        lists={
            "train": "manifests with train and val rows, as FILE or SET=FILE",
            "test": "manifests with mos, likewise; a set is not tested by its own model",
            "stages": "YAML files of the training stages, in order",
        },
    ),
    "mos": Command(
        "people's ratings -> mean opinion scores, raters screened",
        "harmonyiqa.data.mos.command:mos",
        "ratings",
        "a table with the columns rater, image, rating (.csv, .jsonl or .parquet)",
    ),
    "data folder": Command("a folder of images -> manifest", "harmonyiqa.data.commands:folder"),
    "data harmonyiqad": Command(
        "HarmonyIQAD's labels and images -> manifest", "harmonyiqa.data.readers.command:harmonyiqad"
    ),
    "data csiq": Command("CSIQ -> manifest", "harmonyiqa.data.readers.command:csiq"),
    "data tid2013": Command("TID2013 -> manifest", "harmonyiqa.data.readers.command:tid2013"),
    "data kadid10k": Command("KADID-10k -> manifest", "harmonyiqa.data.readers.command:kadid10k"),
    "data live": Command("LIVE, release 2 -> manifest", "harmonyiqa.data.readers.command:live"),
    "data iharmony4": Command("iHarmony4 -> manifest", "harmonyiqa.data.readers.command:iharmony4"),
    "data ccharmony": Command("ccHarmony -> manifest", "harmonyiqa.data.readers.command:ccharmony"),
    "data table": Command("any table of labels -> manifest", "harmonyiqa.data.readers.command:table"),
    "data check": Command("is a manifest complete and sound?", "harmonyiqa.data.commands:check"),
    "data split": Command(
        "train, val and test: random, folds, or a shipped split", "harmonyiqa.data.commands:split"
    ),
    "data synthesize": Command(
        "photos + regions -> composites of known severity", "harmonyiqa.synthesize.command:synthesize"
    ),
    "serve": Command("score images over HTTP: POST image (and reference)", "harmonyiqa.serve.commands:serve"),
    "rate create": Command(
        "images -> rating study with secret links", "harmonyiqa.rate.commands:create", bare=True
    ),
    "rate serve": Command("the study's web pages", "harmonyiqa.rate.commands:serve", bare=True),
    "rate backup": Command("copy a running study", "harmonyiqa.rate.commands:backup", bare=True),
    "rate export": Command("votes -> ratings for MOS", "harmonyiqa.rate.commands:export", bare=True),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 all done; 1 some inputs failed, each with its reason; 2 wrong usage, settings or files, in one line.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        print(__version__)
        return 0
    name = next((n for n in (" ".join(words[:2]), *words[:1]) if n in COMMANDS), None)
    if name is None:
        return _overview(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("httpx", "datasets", "filelock", "jsonargparse"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # on processors with bfloat16 it warns of a faster 4-bit kernel that it would fetch from the hub
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        return run(name, words[len(name.split()) :])
    except UserError as error:
        print(f"harmonyiqa {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run(name: str, words: Sequence[str]) -> int:
    """Parse the words of one command and call its function."""
    command = COMMANDS[name]
    module, _, attribute = command.function.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    words = [find_config(word) if before == "--config" else word for before, word in pairwise(["", *words])]
    words = _spelled_out(words, function)
    parser, call = _PARSERS.get(name, _parser)(name, command, function, words)
    try:
        arguments = parser.parse_args(words)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return call(parser.instantiate(arguments)) or 0


def _spelled_out(words: Sequence[str], function: Callable[..., Any]) -> list[str]:
    """`--flag` alone means `--flag true`, and `--two-words` is `--two_words`: what the parser wants."""
    parameters = signature(function).parameters
    flags = {f"--{name}" for name, each in parameters.items() if each.default is False}
    dashed = {f"--{name.replace('_', '-')}": f"--{name}" for name in parameters}
    words = [dashed.get(word, word) for word in words]
    spelled = []
    for word, after in pairwise([*words, ""]):
        spelled += [word, "true"] if word in flags and after not in ("true", "false") else [word]
    return spelled


def _parser(
    name: str, command: Command, function: Callable[..., Any], _: Sequence[str] = ()
) -> tuple[Any, Callable[[Any], Any]]:
    parser = _new_parser(name, function)
    if command.positional:
        several = get_type_hints(function)[command.positional] == list[str]
        parser.add_argument(
            command.positional, nargs="+" if several else None, metavar="PATH", help=command.words
        )
    for option, text in command.lists.items():
        required = signature(function).parameters[option].default is Parameter.empty
        parser.add_argument(f"--{option}", nargs="+", metavar="WORD", required=required, help=text)
    skip = {command.positional, *command.lists} - {None}
    parser.add_function_arguments(function, as_positional=command.bare, skip=skip)
    return parser, lambda arguments: function(**vars(arguments))


def _train_parser(
    name: str, command: Command, function: Callable[..., Any], words: Sequence[str] = ()
) -> tuple[Any, Callable[[Any], Any]]:
    """Settings at the top level, so that YAML keys and options read `--optim.epochs 3`."""
    from harmonyiqa.config import AictTrainSettings, TowerTrainSettings, TrainSettings

    others = {"aict": AictTrainSettings, "tower": TowerTrainSettings}
    settings_class = others.get(_stage(words) or "", TrainSettings)
    parser = _new_parser(name, function)
    parser.add_argument("--config", action="config", help="a YAML file: a path, or the name of a shipped one")
    parser.add_argument(
        "--only_stage", type=int, help="refuse settings of another stage (the two scripts use it)"
    )
    parser.add_argument(
        "--resume", type=bool, default=False, help="go on from the newest checkpoint of the run folder"
    )
    parser.add_class_arguments(settings_class)

    def call(arguments: Any) -> Any:
        values = {k: v for k, v in vars(arguments).items() if k not in ("config", "resume", "only_stage")}
        settings = settings_class(**values)
        if arguments.only_stage not in (None, settings.stage):
            raise UserError(
                f"these settings are for stage {settings.stage}, this script trains stage {arguments.only_stage}"
            )
        return function(settings, resume=arguments.resume)

    return parser, call


def _estimate_parser(
    name: str, command: Command, function: Callable[..., Any], _: Sequence[str] = ()
) -> tuple[Any, Callable[[Any], Any]]:
    """The settings of `train`, and the function's own options."""
    from harmonyiqa.config import TrainSettings

    parser = _new_parser(name, function)
    parser.add_argument("--config", action="config", help="a YAML file: a path, or the name of a shipped one")
    own = parser.add_function_arguments(function, skip={"settings"})
    parser.add_class_arguments(TrainSettings)

    def call(arguments: Any) -> Any:
        values = {key: value for key, value in vars(arguments).items() if key != "config"}
        options = {key: values.pop(key) for key in own}
        return function(TrainSettings(**values), **options)

    return parser, call


_PARSERS: dict[str, Callable[..., tuple[Any, Callable[[Any], Any]]]] = {
    "train": _train_parser,
    "estimate": _estimate_parser,
}


def _new_parser(name: str, function: Callable[..., Any]) -> Any:
    from jsonargparse import ArgumentParser

    return ArgumentParser(
        prog=f"harmonyiqa {name}", description=(function.__doc__ or "").strip().split("\n\n")[0]
    )


def _stage(words: Sequence[str]) -> str | None:
    """What is to be trained, as `--stage` or the YAML file says: it decides which settings there are."""
    stage = None
    for before, word in pairwise([*words, ""]):
        if before == "--stage":
            return word
        if before == "--config" and Path(word).is_file():
            line = next((t for t in Path(word).read_text("utf-8").splitlines() if t.startswith("stage:")), "")
            stage = line.partition(":")[2].partition("#")[0].strip().strip("'\"") or None
    return stage


def find_config(name: str) -> str:
    """A YAML file by path, or a shipped one by name (`tiny_stage1.yaml`)."""
    shipped = resource_folder("configs") / Path(name).name
    return str(shipped) if not Path(name).exists() and shipped.exists() else name


def _overview(words: Sequence[str]) -> int:
    lines = [
        "usage: harmonyiqa COMMAND ...",
        "",
        "Does this composite image look right to people?",
        "",
        "commands:",
    ]
    lines += [f"  {name:<16} {command.help}" for name, command in COMMANDS.items()]
    lines += ["", "harmonyiqa COMMAND --help shows a command's options."]
    asked = not words or words[0] in ("-h", "--help") or (len(words) > 1 and words[1] in ("-h", "--help"))
    if asked:
        print("\n".join(lines))
        return 0 if words else 2
    print(f"harmonyiqa: there is no command {' '.join(words[:2])!r}; see harmonyiqa --help", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
