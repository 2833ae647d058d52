"""A file that holds the options of a run: `massmap-jax config` writes one, `--config` reads it, and run.json is one.

The file is YAML, of which every value is taken as the text that stands there, as on a command line. YAML's own reading
would make text of `1e14` and "false" of `no`. TOML is read, too.
"""

from __future__ import annotations

import difflib
import textwrap
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from massmap_jax.catalogue.result_folder import record_of
from massmap_jax.errors import MassmapError, first_line
from massmap_jax.run.outputs import PROGRAM, versions

COMMAND_LINE_ONLY = ("config", "overwrite", "resume")
"""Options of one call, which no file gives: that a folder may be replaced has to be said each time."""
_MOST_BYTES = 10_000_000
_WIDTH = 100
_NULL = "tag:yaml.org,2002:null"
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


@dataclass(frozen=True)
class Setting:
    """An option of a command, as a file may hold it.

    Attributes
    ----------
    name : str
        Its name, with underscores.
    kind : type
        str, float, int or bool.
    default : object
        Its value where it is not given; None where it then has none.
    help : str
        What it is.
    group : str
        The heading it stands under.
    """

    name: str
    kind: type
    default: Any
    help: str
    group: str


@dataclass(frozen=True)
class Config:
    """The options that a file gives.

    Attributes
    ----------
    path : str
        The file.
    values : dict
        Values by name, those that the file leaves open left out.
    inputs : dict
        From a run.json: the files of that run, as `massmap_jax.run.inputs.inputs_of` gives them.
    notes : tuple of str
        What the user should know about the file.
    """

    path: str
    values: dict
    inputs: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def template(command: str, settings: Sequence[Setting]) -> str:
    """Write a file with all options of a command at their defaults, as comments.

    Parameters
    ----------
    command : str
        Name of the command.
    settings : sequence of Setting
        Its options.

    Returns
    -------
    str
        The text of the file.

    Examples
    --------
    >>> from massmap_jax.run.config import Setting, template
    >>> print(template("run", [Setting("min_snr", float, 3.0, "Least signal to noise.", "Observable")]))
    # The options of `massmap-jax run`, for `massmap-jax run --config FILE`. Those that begin with # are
    # at their defaults: remove the # to set one. What the command line gives goes before the file, and
    # paths are relative to the folder where the command is run, not to this file.
    <BLANKLINE>
    # -- Observable --
    <BLANKLINE>
    # Least signal to noise.
    #min_snr: 3.0
    <BLANKLINE>
    """
    intro = (
        f"The options of `{PROGRAM} {command}`, for `{PROGRAM} {command} --config FILE`. Those that begin with # are "
        "at their defaults: remove the # to set one. What the command line gives goes before the file, and paths are "
        "relative to the folder where the command is run, not to this file."
    )
    lines = _comment(intro)
    for group in dict.fromkeys(setting.group for setting in settings):
        lines += ["", f"# -- {group} --"]
        for setting in settings:
            if setting.group == group and setting.name not in COMMAND_LINE_ONLY:
                lines += ["", *_comment(setting.help), "#" + _line(setting)]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _line(setting: Setting) -> str:
    """One option at its default, as YAML."""
    import yaml

    if setting.default is None:
        return f"{setting.name}:"
    return yaml.safe_dump({setting.name: setting.default}, allow_unicode=True).rstrip("\n")


def read_config(path: str, command: str, settings: Sequence[Setting]) -> Config:
    """Read the options of a command from a YAML or TOML file, or from the run.json of an earlier run.

    Parameters
    ----------
    path : str
        The file.
    command : str
        Name of the command.
    settings : sequence of Setting
        Its options.

    Returns
    -------
    Config
        The options, of the types that they have.

    Raises
    ------
    MassmapError
        For a file that cannot be read, an option that the command has not, one that is given twice, or a value of
        another type.
    """
    text = _text_of(path)
    record = _record_of(text)
    inputs, notes = {}, ()
    if record is None:
        given = _of_toml(path, text) if Path(path).suffix.lower() == ".toml" else _pairs(path, text)
    else:
        given, inputs, notes = _of_record(path, record, command)
    known = {setting.name: setting for setting in settings}
    values: dict[str, Any] = {}
    seen: dict[str, str] = {}
    for shown, raw, where in given:
        name = shown.strip().lstrip("-").replace("-", "_")
        _check_name(name, shown, where, command, known)
        if name in seen:
            raise MassmapError(f"{where}: {name} is given a second time, after {seen[name]}: leave one of them out")
        seen[name] = where
        if raw is not None:
            values[name] = _value(known[name], raw, where)
    return Config(path, values, inputs, notes)


def _text_of(path: str) -> str:
    """The text of a file, or a sentence that says why there is none."""
    file = Path(path)
    if file.is_dir():
        inside = file / "run.json"
        hint = f": give {inside}" if inside.is_file() else ", and a file with options is needed"
        raise MassmapError(f"the config {path} is a folder{hint}")
    if not file.exists():
        raise MassmapError(f"the config {path} does not exist: {PROGRAM} config > {path} writes one to begin with")
    if (size := file.stat().st_size) > _MOST_BYTES:
        raise MassmapError(f"the config {path} is a file of {size / 1e6:,.0f} MB, not one of options: is it another's?")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise MassmapError(f"the config {path} is not a text file: give YAML, or the run.json of a run") from None


def _record_of(text: str) -> dict | None:
    """The record of a run, None where the text is no JSON of this program."""
    record = record_of(text)
    return record if record is not None and record.get("program") == PROGRAM else None


def _of_record(path: str, record: dict, command: str):
    """The options of a run.json, the files it was made from, and notes."""
    of = record.get("command")
    if of is None or not isinstance(record.get("config"), dict):
        made = f"written by {PROGRAM} {record.get('version')}" if of is None else f"the record of {PROGRAM} {of}"
        raise MassmapError(f"{path} is {made}, which holds no options to run again: give them anew, in a YAML file")
    if of != command:
        raise MassmapError(f"{path} is the record of {PROGRAM} {of}: give it to {PROGRAM} {of}, not to {command}")
    given = [(name, _as_text(value, f"{path}: {name}"), path) for name, value in record["config"].items()]
    before, now, inputs = record.get("versions") or {}, versions(), record.get("inputs") or {}
    if not (_of_texts(before) and isinstance(inputs, dict) and all(map(_is_input, inputs.values()))):
        raise MassmapError(
            f"{path} is not as {PROGRAM} wrote it (its versions or inputs were changed): give the options anew, in a "
            "YAML file"
        )
    other = [f"{p} {before[p]} ({now[p]} now)" for p in before if p in now and before[p] != now[p]]
    notes = (f"{path} was made with {', '.join(other)}: the last digits may differ",) if other else ()
    return given, inputs, notes


def _of_texts(value) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_input(value) -> bool:
    """Whether a record of a file is one that `inputs_of` or a stream gives."""
    if not isinstance(value, dict):
        return False
    rest = {name: told for name, told in value.items() if name != "files"}
    return _of_texts(rest) and _of_texts(value.get("files", {}))


def _as_text(value, where: str):
    """A value of JSON as YAML has it: text, a list of texts, or None."""
    if isinstance(value, list):
        if not value or any(one is None or isinstance(one, list | dict) for one in value):
            raise MassmapError(f"{where} holds a list that is empty or not of plain values: give values, as in [a, b]")
        return [_as_text(one, where) for one in value]
    if isinstance(value, dict):
        raise MassmapError(f"{where} holds options of its own, and one value is needed: write it as on a command line")
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if value is None or isinstance(value, str) else repr(value)


def _of_toml(path: str, text: str) -> list[tuple[str, Any, str]]:
    """Names, texts and places of a TOML file of one table."""
    try:
        root = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MassmapError(f"{path} is not TOML: {first_line(error)}") from None
    return [(name, _as_text(value, f"{path}: {name}"), path) for name, value in root.items()]


def _pairs(path: str, text: str) -> list[tuple[str, Any, str]]:
    """Names, texts and places of a YAML file of one mapping; nothing is converted, and nothing constructed."""
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f", line {mark.line + 1}" if mark else ""
        raise MassmapError(f"{path}{at} is not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise MassmapError(f"{path} is not YAML: {first_line(error)}") from None
    if root is None or root.tag == _NULL:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise MassmapError(f"{path} holds no options: give a line NAME: VALUE for each")
    found = []
    for key, node in root.value:
        where = f"{path}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise MassmapError(f"{where} does not begin with the name of an option: give NAME: VALUE")
        found.append((key.value, _text(node, f"{where}: {key.value}"), where))
    return found


def _text(node, where: str):
    """The text of a value, a list of texts, or None for null."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        texts = [_text(one, where) for one in node.value]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise MassmapError(f"{where} holds a list that is empty or not of plain values: give values, as in [a, b]")
        return texts
    if not isinstance(node, yaml.ScalarNode):
        raise MassmapError(f"{where} holds options of its own, and one value is needed: write it as on a command line")
    if node.value == "":
        raise MassmapError(f"{where} has no value: give one, or remove the line (text that begins with # needs quotes)")
    return None if node.tag == _NULL else node.value


def _check_name(name: str, shown: str, where: str, command: str, known: dict[str, Setting]) -> None:
    """Refuse a name that is no option of a file, and name the nearest that is one."""
    if name in COMMAND_LINE_ONLY:
        raise MassmapError(f"{where}: {name} is given on the command line only: leave it out here")
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"the nearest is {near[0]}, and " if near else ""
        raise MassmapError(f"{where}: {shown!r} is no option of {command}: {hint}{PROGRAM} config {command} lists all")


def _value(setting: Setting, raw, where: str):
    """A value of the setting's type from its text."""
    if isinstance(raw, list):
        if setting.kind is str:
            return ",".join(raw)
        raise MassmapError(f"{where}: {setting.name} is a list, and one value is needed")
    if setting.kind is bool:
        if raw.lower() in (*_TRUE, *_FALSE):
            return raw.lower() in _TRUE
        raise MassmapError(f"{where}: {setting.name} is {raw!r}: give true or false")
    try:
        return setting.kind(raw)
    except ValueError:
        needed = {float: "a number", int: "a whole number"}[setting.kind]
        raise MassmapError(f"{where}: {setting.name} is {raw!r}, and {needed} is needed") from None
