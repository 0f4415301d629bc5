"""What declares one typed value: an input of a workflow, or a field of an approval's form."""

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

JsonScalar: TypeAlias = bool | int | float | str | None
InputType = Literal["string", "integer", "number", "boolean", "array", "object"]


class Strict(BaseModel):
    """What every part of a definition is: frozen, with known keys alone, nothing converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class InputSpec(Strict):
    """One typed input of the workflow: a small part of JSON Schema."""

    type: InputType = Field(default="string", description="JSON type of the value.")
    description: str = Field(default="", description="What the input is for.")
    default: JsonScalar | list[object] | dict[str, object] = Field(
        default=None,
        description="Value if the run gives none; without it the input is null.",
        examples=["/var/log"],
    )
    required: bool = Field(default=False, description="Whether the run must give a value.")
    enum: list[JsonScalar] | None = Field(
        default=None, description="The only values allowed.", examples=[["dev", "prod"]]
    )
    minimum: float | None = Field(default=None, description="Least value of a number.")
    maximum: float | None = Field(default=None, description="Greatest value of a number.")
    pattern: str | None = Field(
        default=None,
        description="Regular expression (RE2 syntax) that must match somewhere in a string.",
        examples=["^[a-z0-9-]+$"],
    )
