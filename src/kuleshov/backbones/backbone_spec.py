"""How a configuration names a backbone: by one of our names, or by a class's path and its arguments."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import register_type

from kuleshov.core.errors import KuleshovError, nearest
from kuleshov.core.files import parse_yaml, read_text

ARCHITECTURES = ("slow_d_r50", "slow_r50", "i3d_r50", "i3d_nl_r50", "motion_2d")
NAMED = {name: f"kuleshov.backbones.architectures.{name}" for name in ARCHITECTURES}
NAMED["huggingface"] = "kuleshov.backbones.huggingface.HuggingFaceBackbone"

if TYPE_CHECKING:
    BackboneSpec = str | dict[str, Any]
else:

    class BackboneSpec(str):
        """The type of arguments that name a backbone; values are a name, a YAML file's path, or the spec as JSON text.

        A type of its own, because jsonargparse takes any dictionary with a `class_path` for a class that it is to
        import itself. As text the value also passes through hyper-parameters and checkpoints.
        """


def _from_configuration(value: Any) -> str:
    if not isinstance(value, str | dict):
        raise ValueError("a backbone is a name, or class_path and init_args")
    return value if isinstance(value, str) else json.dumps(value)


def _to_configuration(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value.startswith("{") else value


register_type(
    BackboneSpec,
    serializer=_to_configuration,
    deserializer=_from_configuration,
    type_check=lambda value, _: isinstance(value, str),
)


def origin_of(manifest: Mapping[str, Any]) -> str:
    """A backbone's name and all that it has been through, by its manifest: `slow_d_r50 cvrl-k400 cvrl-vidsitu`."""
    return " ".join([str(manifest.get("class_path", "unnamed")).rpartition(".")[2], *phases_of(manifest)])


def phases_of(manifest: Mapping[str, Any]) -> list[str]:
    """What a backbone has been through, in order, `METHOD-DATA` each; `unknown` where its manifest does not say."""
    return list(map(str, manifest.get("trained") or ["unknown"]))


def read_spec(spec: BackboneSpec) -> tuple[str, dict[str, Any]]:
    """The dotted path of a backbone's class (or function), and its arguments.

    Args:
        spec: a name such as `slow_d_r50`, a dotted path, `{class_path, init_args}` as a dictionary or as text, or the
            path of a YAML file that holds one of these.

    Raises:
        KuleshovError: no such name, or a dictionary with other fields.
        MissingDataError: no such YAML file.
        FormatError: it is not YAML.
    """
    where = "backbone"
    if isinstance(spec, str) and spec.endswith((".yaml", ".yml")):
        where, spec = f"{spec}, backbone", read_text(spec, "the backbone's configuration", "check --backbone")
    if isinstance(spec, str):
        spec = parse_yaml(spec, where)
    if isinstance(spec, str):
        spec = {"class_path": spec}
    if not isinstance(spec, dict) or "class_path" not in spec or set(spec) - {"class_path", "init_args"}:
        raise KuleshovError(f"{where}: a name, or class_path and init_args, is needed, not {spec!r}")
    path, arguments = str(spec["class_path"]), spec.get("init_args") or {}
    if path not in NAMED and "." not in path:
        raise KuleshovError(f"no backbone is called {path!r}{nearest(path, NAMED)}")
    if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
        raise KuleshovError(f"{where}: init_args are arguments by name, not {arguments!r}")
    return NAMED.get(path, path), dict(arguments)
