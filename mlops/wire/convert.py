"""Messages to domain values and back, driven by the descriptors.

A message and the value it stands for have the same field names, so that one walk serves them all:

    enum            the value's lower-case name without its prefix (JOB_STATE_QUEUED is "queued"); UNSPECIFIED is absent
    optional, oneof, message    absent where it is not set: the domain's default applies
    other scalars   as they are; zero is zero
    Timestamp       aware datetime in UTC
    Duration        timedelta
    repeated, map   tuple, dict

`fields.UNWRAPPED` names the one field that is shaped otherwise; what the walk cannot do at all stands in jobs.py and datasets.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mlops.errors import InvalidRequest
from mlops.jobs.estimator import MAX_ESTIMATOR_DEPTH
from mlops.wire.fields import UNWRAPPED, Field, Holder, Path, Shape, bracket, fields_of, join, path_of, quote

ModelT = TypeVar("ModelT", bound=BaseModel)
MessageT = TypeVar("MessageT", bound=Message)

ESTIMATOR = "mlops.v1.EstimatorSpec"
# protobuf itself parses 100 levels of messages; messages made in this process are held to the same.
MAX_MESSAGE_DEPTH = 100

_Problems = dict[str, str]


def _refuse(kind: str, problems: _Problems) -> InvalidRequest:
    listed = "; ".join(f"{path}: {problem}" if path else problem for path, problem in list(problems.items())[:3])
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return InvalidRequest(f"invalid {kind}: {listed}{more}", violations=problems)


# --- message to value --------------------------------------------------------------------------


def to_plain(message: Message) -> dict[str, Any]:
    """The message as dicts, lists and Python's own types, holding only what is present.

    Raises InvalidRequest for what no Python value can stand for: a timestamp out of range, too deep a nesting.
    """
    reader = _Reader()
    plain = reader.message(message, ())
    if reader.problems:
        raise _refuse(message.DESCRIPTOR.name, reader.problems)
    return plain


def parse(
    message: Message,
    model: type[ModelT],
    *,
    prefix: str = "",
    reshape: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> ModelT:
    """The value that a message stands for; `reshape` sets right what the message holds in another form.

    Raises InvalidRequest with every violation by its path in the message, behind `prefix`
    (`spec.estimator.params[n_estimators].integer`).
    """
    start = (prefix,) if prefix else ()
    reader = _Reader()
    plain = reader.message(message, start, model)
    problems = reader.problems
    if reader.too_deep:
        raise _refuse(model.__name__, problems)
    try:
        value = model.model_validate(reshape(plain) if reshape else plain)
        if not problems:
            return value
    except ValidationError as error:
        for found in error.errors(include_url=False, include_context=False):
            path = join((*start, *path_of(message, found["loc"])))
            problems.setdefault(path, _problem(found["msg"], found["type"], found["input"]))
    raise _refuse(model.__name__, problems)


class _Reader:
    """One walk over a message. Collects what no Python value can stand for."""

    def __init__(self) -> None:
        self.problems: _Problems = {}
        self.too_deep = False

    def message(
        self,
        message: Message,
        path: Path,
        model: type[BaseModel] | None = None,
        *,
        levels: int = 0,
        estimators: int = 0,
    ) -> dict[str, Any]:
        estimators += message.DESCRIPTOR.full_name == ESTIMATOR
        if levels > MAX_MESSAGE_DEPTH or estimators > MAX_ESTIMATOR_DEPTH:
            self.too_deep = True
            rule = f"{MAX_ESTIMATOR_DEPTH} estimators or {MAX_MESSAGE_DEPTH} messages"
            self.problems[join(path)] = f"is nested more than {rule} deep"
            return {}
        fields = fields_of(message.DESCRIPTOR)
        scalars, lists, maps = _absent(message.DESCRIPTOR, model)
        plain: dict[str, Any] = {**scalars, **{name: [] for name in lists}, **{name: {} for name in maps}}
        models = _models(model) if model is not None else {}
        # Most fields of most messages are not there.
        for descriptor, value in message.ListFields():
            field = fields[descriptor.name]
            if field.shape is Shape.SCALAR:
                plain[field.name] = _scalars(field, value)
                continue
            convert = self._converter(field, models.get(field.name), levels, estimators)
            here = (*path, field.name)
            if field.holder is Holder.ONE:
                if field.shape is not Shape.ENUM or value != 0:
                    plain[field.name] = convert(value, here)
            elif field.holder is Holder.MAP:
                plain[field.name] = {key: convert(value[key], (*here, bracket(key))) for key in value}
            else:
                plain[field.name] = [convert(item, (*here, bracket(index))) for index, item in enumerate(value)]
        return plain

    def _converter(
        self, field: Field, model: type[BaseModel] | None, levels: int, estimators: int
    ) -> Callable[[Any, Path], Any]:
        if field.shape is Shape.ENUM:
            return lambda value, path: field.names.get(value, value)
        if field.shape is Shape.UNWRAPPED:
            inner = UNWRAPPED[field.full_name]
            return lambda value, path: list(getattr(value, inner))
        if field.shape is Shape.TIMESTAMP:
            return lambda value, path: self._time(lambda: value.ToDatetime(tzinfo=UTC), path)
        if field.shape is Shape.DURATION:
            return lambda value, path: self._time(value.ToTimedelta, path)
        return lambda value, path: self.message(value, path, model, levels=levels + 1, estimators=estimators)

    def _time(self, convert: Callable[[], datetime | timedelta], path: Path) -> datetime | timedelta | None:
        try:
            return convert()
        except (ValueError, OverflowError) as error:
            self.problems[join(path)] = f"is out of range: {error}"
            return None


@cache
def _absent(message: Descriptor, model: type[BaseModel] | None) -> tuple[dict[str, Any], list[str], list[str]]:
    """What an empty message stands for: scalars (None where one must be there but may be None), lists, maps."""
    scalars: dict[str, Any] = {}
    fields = fields_of(message)
    for name, field in fields.items():
        if field.has_presence:
            if model is not None and name in model.model_fields and _says_none(model.model_fields[name]):
                scalars[name] = None
        elif field.holder is Holder.ONE and field.shape is Shape.SCALAR:
            scalars[name] = message.fields_by_name[name].default_value
    lists = [name for name, field in fields.items() if field.holder is Holder.MANY]
    return scalars, lists, [name for name, field in fields.items() if field.holder is Holder.MAP]


def _says_none(field: FieldInfo) -> bool:
    return field.is_required() and NoneType in _kinds(field)


@cache
def _models(model: type[BaseModel]) -> Mapping[str, type[BaseModel]]:
    """The models of the items of the fields that hold models."""
    kinds = {name: _kinds(field) for name, field in model.model_fields.items()}
    found = {name: [kind for kind in all_ if _is_model(kind)] for name, all_ in kinds.items()}
    return {name: models[0] for name, models in found.items() if models}


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _kinds(field: FieldInfo) -> set[Any]:
    """Every type that the field's annotation names."""
    waiting, found = [field.annotation], set[Any]()
    while waiting:
        annotation = waiting.pop()
        found.add(annotation)
        waiting.extend(get_args(annotation))
    return found


def _scalars(field: Field, value: Any) -> Any:
    if field.holder is Holder.ONE:
        return value
    return dict(value) if field.holder is Holder.MAP else list(value)


def _problem(message: str, kind: str, value: Any) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Input ")
    if kind == "missing":
        return "is required"
    if value is None or isinstance(value, bool | int | float | str):
        return f"{text}, got {quote(repr(value))}"
    return text


# --- value to message --------------------------------------------------------------------------


def build(message_class: type[MessageT], value: BaseModel) -> MessageT:
    """The message that stands for a value.

    Raises InvalidRequest, with the field's path, for what the wire cannot carry: an integer beyond 64 bits,
    text with lone surrogates, too deep a nesting.
    """
    message = message_class()
    _fill(message, value, (), 0)
    return message


def _fill(message: Message, value: BaseModel, path: Path, levels: int) -> None:
    if levels > MAX_MESSAGE_DEPTH:
        raise InvalidRequest.of(join(path[:6]), f"is nested more than {MAX_MESSAGE_DEPTH} messages deep")
    # An empty message that is present has to say so itself.
    message.SetInParent()
    values = value.__dict__
    for field in fields_of(message.DESCRIPTOR).values():
        found = values.get(field.name)
        # What is absent stands for zero, but not for -0.0.
        if found is None or not (found or field.has_presence or isinstance(found, float)):
            continue
        try:
            if field.shape is Shape.SCALAR and field.holder is Holder.ONE:
                setattr(message, field.name, found)
            else:
                _set(message, field, found, (*path, field.name), levels)
        except (ValueError, OverflowError, TypeError) as error:
            raise InvalidRequest.of(join((*path, field.name)), f"cannot be sent: {error}") from error


def _set(message: Message, field: Field, value: Any, path: Path, levels: int) -> None:
    target = getattr(message, field.name)
    if field.holder is Holder.ONE:
        if field.shape is Shape.MESSAGE:
            _fill(target, value, path, levels + 1)
        elif field.shape is Shape.TIMESTAMP:
            target.FromDatetime(value)
        elif field.shape is Shape.DURATION:
            target.FromTimedelta(value)
        else:
            setattr(message, field.name, field.numbers[value])
    elif field.holder is Holder.MAP:
        for key, item in value.items():
            if field.shape is Shape.MESSAGE:
                _fill(target[key], item, (*path, bracket(key)), levels + 1)
            else:
                target[key] = _to_scalar(field, item)
    elif field.shape is Shape.MESSAGE:
        for index, item in enumerate(value):
            _fill(target.add(), item, (*path, bracket(index)), levels + 1)
    elif field.shape is Shape.UNWRAPPED:
        for item in value:
            getattr(target.add(), UNWRAPPED[field.full_name]).extend(item)
    else:
        target.extend(_to_scalar(field, item) for item in value)


def _to_scalar(field: Field, value: Any) -> Any:
    return field.numbers[value] if field.shape is Shape.ENUM else value
