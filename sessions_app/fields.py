"""The fields that requests are made of, strict about what comes: each refuses by name what it does not know."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rest_framework import serializers

from sessions_app.instants import parse_instant
from sessions_app.models import User

Json = dict[str, Any]

MOST = 10**9
"""Of any number that a request may hold."""


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it does not know; null counts as absent."""

    def to_internal_value(self, data: Any) -> Any:
        """The validated fields, defaults filled in."""
        if not isinstance(data, dict):
            raise serializers.ValidationError("Must be an object.")
        if unknown := [name for name in data if name not in self.fields]:
            raise serializers.ValidationError({name: ["This field is not known."] for name in unknown})
        given = {name: value for name, value in data.items() if value is not None}
        return super().to_internal_value(given)


class Text(serializers.CharField):
    """A string, taken as it is: numbers are none, and no blank is cut off."""

    default_error_messages = {
        "required": "Is needed.",
        "blank": "Is needed.",
        "max_length": "Must not be longer than {max_length} characters.",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The string."""
        if not isinstance(data, str):
            raise serializers.ValidationError("Must be a string.")
        return super().to_internal_value(data)


class Whole(serializers.IntegerField):
    """A whole number; neither a string nor true."""

    default_error_messages = {
        "max_value": "Must not be more than {max_value}.",
        "min_value": "Must not be less than {min_value}.",
    }

    def to_internal_value(self, data: Any) -> int:
        """The number."""
        if isinstance(data, bool) or not isinstance(data, int):
            raise serializers.ValidationError("Must be a whole number.")
        return super().to_internal_value(data)


class Amount(serializers.FloatField):
    """A number, perhaps with a fraction; neither a string nor true."""

    default_error_messages = Whole.default_error_messages

    def to_internal_value(self, data: Any) -> float:
        """The number."""
        if isinstance(data, bool) or not isinstance(data, int | float):
            raise serializers.ValidationError("Must be a number.")
        # The limits are asked later, and take no number that is too large for a fraction.
        return super().to_internal_value(min(max(data, -1), MOST + 1))


class Switch(serializers.Field[bool, Any, bool, Any]):
    """true or false."""

    def to_internal_value(self, data: Any) -> bool:
        """The value."""
        if not isinstance(data, bool):
            raise serializers.ValidationError("Must be true or false.")
        return data

    def to_representation(self, value: bool) -> bool:
        """The value."""
        return value


class Instant(serializers.Field[datetime, Any, datetime, Any]):
    """An instant with its zone (RFC 3339)."""

    def to_internal_value(self, data: Any) -> datetime:
        """The instant in UTC."""
        try:
            return parse_instant(data if isinstance(data, str) else "")
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None

    def to_representation(self, value: datetime) -> datetime:
        """The instant."""
        return value


class Word(Text):
    """One of a few words."""

    def __init__(self, words: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._words = list(words)

    def to_internal_value(self, data: Any) -> str:
        """The word."""
        found = super().to_internal_value(data)
        if found not in self._words:
            raise serializers.ValidationError(f"Must be one of {', '.join(self._words)}.")
        return found


def validated(serializer_class: type[StrictSerializer], user: User, data: Any, **context: Any) -> Json:
    """The validated form of a request's body. Raises ValidationError."""
    if not isinstance(data, dict):
        raise serializers.ValidationError("The body must be a JSON object.")
    serializer = serializer_class(data=data, context={"user": user, **context})
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
