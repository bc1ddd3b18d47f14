"""The functions that a request declares, and which of them its answer may or must call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from frontend.chat_messages import FunctionName
from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter
from gpt_oss_triton.harmony.check import MAX_TOOLS, check_schema
from gpt_oss_triton.harmony.grammar import ANY_OBJECT, Call, check_enforceable
from gpt_oss_triton.wire import Tool

_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
_OF_OTHER_SCHEMAS = {"$ref", "anyOf", "oneOf", "allOf"}
_SAYS_ITS_TYPE = {"type", *_OF_OTHER_SCHEMAS}
# Properties beside a schema's `properties` may be meant.
_MAY_HAVE_MORE = {"additionalProperties", "patternProperties", "propertyNames", "if", *_OF_OTHER_SCHEMAS}


class FunctionDefinition(Struct, forbid_unknown_fields=True):
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    function: FunctionDefinition


class CustomTool(Struct, tag_field="type", tag="custom"):
    pass


class NamedFunction(Struct, forbid_unknown_fields=True):
    name: FunctionName


class FunctionChoice(Struct, tag_field="type", tag="function", forbid_unknown_fields=True):
    function: NamedFunction


class AllowedFunction(Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: NamedFunction


class AllowedTools(Struct, forbid_unknown_fields=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedFunction], Meta(min_length=1, max_length=MAX_TOOLS)]


class AllowedChoice(Struct, tag_field="type", tag="allowed_tools", forbid_unknown_fields=True):
    allowed_tools: AllowedTools


class CustomChoice(Struct, tag_field="type", tag="custom"):
    pass


Tools = Annotated[list[FunctionTool | CustomTool], Meta(max_length=MAX_TOOLS)]
Choice = Literal["none", "auto", "required"] | FunctionChoice | AllowedChoice | CustomChoice


class Functions(Struct, frozen=True):
    """What a request says of functions, checked.

    Attributes:
        tools: all of them, for the prompt; it stays the same whatever may be called.
        callable: those that the answer may call.
        must_call: the answer is a call.
        restricted: not all of them may be called.
        guided: calls keep to what was declared although nothing in the request asks for it.
    """

    tools: list[Tool]
    callable: list[FunctionDefinition]
    must_call: bool
    restricted: bool
    guided: bool

    @property
    def names(self) -> frozenset[str]:
        return frozenset(function.name for function in self.callable)

    @property
    def bound(self) -> bool:
        """A call has to be such as was asked for, whatever the model would write."""
        return self.must_call or self.restricted or any(function.strict for function in self.callable)

    def calls(self) -> list[Call]:
        """What a grammar lets the answer call: by its schema what is strict or has to be called, or where calls are
        guided and it can be enforced; else with any arguments.

        Raises:
            InvalidRequest: a schema cannot be enforced; of functions that are not strict, only where one has to be called
                and no grammar can be made of it.
        """
        places = {tool.name: index for index, tool in enumerate(self.tools)}
        return [self._call(function, places[function.name]) for function in self.callable]

    def _call(self, function: FunctionDefinition, place: int) -> Call:
        if function.parameters is None:
            return Call(function.name, _NOTHING)
        strict = bool(function.strict)
        must_fit = strict or self.must_call
        if not must_fit and not self.guided:
            return Call(function.name, ANY_OBJECT)
        schema = function.parameters
        if not _SAYS_ITS_TYPE & schema.keys():
            schema = {"type": "object", **schema}
        if not must_fit and not _MAY_HAVE_MORE & schema.keys():
            schema = {**schema, "additionalProperties": False}  # no function wants what it does not declare
        try:
            check_enforceable(schema, f"tools[{place}].function.parameters", strict=strict)
        except InvalidRequest:
            if must_fit:
                raise
            return Call(function.name, ANY_OBJECT)  # which nobody asked to be enforced
        return Call(function.name, schema, strict)


def read_functions(
    tools: Sequence[FunctionTool | CustomTool], choice: Choice | None, *, guided: bool = False
) -> Functions:
    """
    Args:
        guided: see `Functions`.

    Raises:
        InvalidRequest: two functions of one name, parameters that are no object's, or a choice of a function that
            is not declared.
        UnsupportedParameter: tools that are no functions.
    """
    declared: dict[str, FunctionDefinition] = {}
    for index, tool in enumerate(tools):
        if isinstance(tool, CustomTool):
            raise UnsupportedParameter("Only functions are supported.", param=f"tools[{index}].type")
        _check(tool.function, f"tools[{index}].function")
        if tool.function.name in declared:
            raise InvalidRequest("Two functions have the same name.", param=f"tools[{index}].function.name")
        declared[tool.function.name] = tool.function
    chosen, must_call = _chosen(declared, choice)
    return Functions(
        tools=[Tool(f.name, f.description or "", f.parameters) for f in declared.values()],
        callable=chosen,
        must_call=must_call,
        restricted=len(chosen) < len(declared),
        guided=guided,
    )


def _check(function: FunctionDefinition, path: str) -> None:
    schema = function.parameters
    if schema is None:
        return
    if schema.get("type", "object") != "object":
        raise InvalidRequest("The parameters of a function are an object.", param=f"{path}.parameters")
    check_schema(schema, f"{path}.parameters")


def _chosen(
    declared: dict[str, FunctionDefinition], choice: Choice | None
) -> tuple[list[FunctionDefinition], bool]:
    match choice:
        case None | "auto":
            return list(declared.values()), False
        case "none":
            return [], False
        case "required":
            if not declared:
                raise InvalidRequest("There is no function to call; give tools.", param="tool_choice")
            return list(declared.values()), True
        case FunctionChoice():
            return [_named(declared, choice.function, "tool_choice.function.name")], True
        case AllowedChoice():
            path = "tool_choice.allowed_tools.tools"
            allowed = {
                tool.function.name: _named(declared, tool.function, f"{path}[{index}].function.name")
                for index, tool in enumerate(choice.allowed_tools.tools)
            }
            return list(allowed.values()), choice.allowed_tools.mode == "required"
        case _:
            raise UnsupportedParameter("Only functions are supported.", param="tool_choice.type")


def _named(
    declared: dict[str, FunctionDefinition], function: NamedFunction, param: str
) -> FunctionDefinition:
    if function.name not in declared:
        raise InvalidRequest(f"No tool is a function named {function.name}.", param=param)
    return declared[function.name]
