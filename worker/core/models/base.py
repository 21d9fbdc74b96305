"""What all models of the provider's data share: nothing that was sent is refused, changed or lost.

The provider adds fields, enum values and event types without a new version (PROVIDER.md 4 and 7), and a handler that
can't read an event can't act on it. So:

* a field of an unknown name is kept, readable as an attribute in the provider's spelling and in ``model_extra``, and
  dumped again;
* a value of another type than documented is kept **as it came** and is then what the attribute holds, against its
  annotation. None in its place would read as "cleared", and a handler would clear it elsewhere too; a strange value
  fails where it is used, and only there. No text is taken for a number, nor the other way round;
* absent is not null: both read as None, and ``has("assignee_id")`` tells them apart (PROVIDER.md 5);
* ids are texts, also where a number is sent: platform ids are above 2**53, where other programs' numbers lose digits;
* times are datetimes with a zone, UTC where none is given; what can't be read as a time stays the text it was.

``model_dump(mode="json", exclude_unset=True)`` gives back what was sent. A repr shows ids, types and ``seq``, never
what is said of a person or by one: models end up in logs by accident.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FieldSerializationInfo,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_serializer,
    field_validator,
)
from pydantic.alias_generators import to_camel


def _moment(value: object) -> object:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise ValueError("not a time")  # noqa: TRY004 - pydantic turns ValueErrors, and only those, into its own
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Id = Annotated[str, Field(coerce_numbers_to_str=True)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Flag = StrictBool
Whole = StrictInt
Number = StrictInt | StrictFloat


class Wire(BaseModel):
    """Base of every model: snake_case here, the provider's camelCase outside. Immutable, for an event is a fact."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        hide_input_in_errors=True,
    )

    shown: ClassVar[frozenset[str]] = frozenset({"id", "type", "platform", "seq"})
    """What a repr shows besides ids (``*_id``) and the models inside."""

    def has(self, name: str) -> bool:
        """Whether the provider sent the field (``"assignee_id"``), be it as null."""
        return name in self.model_fields_set

    @field_validator("*", mode="wrap")
    @classmethod
    def _keep_the_unexpected(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            return value

    @field_serializer("*")
    def _dump_what_is_there(self, value: Any, info: FieldSerializationInfo) -> Any:
        # By the value and not by the annotation, which an unexpected value does not follow.
        if info.mode == "json" and isinstance(value, datetime):
            return _provider_time(value)
        return value

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Wire) or (
                isinstance(value, str | int) and (name in self.shown or name.endswith("_id"))
            ):
                yield name, value


def _provider_time(moment: datetime) -> str:
    """``2025-01-15T14:20:00.000Z``, as the provider writes it (PROVIDER.md 2); finer or elsewhere if the value is."""
    text = moment.isoformat(timespec="microseconds" if moment.microsecond % 1000 else "milliseconds")
    return text.removesuffix("+00:00") + "Z" if moment.utcoffset() == timedelta(0) else text
