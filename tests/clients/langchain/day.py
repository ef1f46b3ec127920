"""An ordinary day with LangChain: structured answers in its three ways, tools, and the answer to a tool's result.

Call with the address of an OpenAI route and a model. Models of tests have learned nothing: forms are checked.
"""

import json
import sys
from typing import Any, Literal

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field


class Car(BaseModel):
    """A car."""

    maker: str = Field(description="Who makes it", max_length=12)
    doors: int = Field(ge=2, le=5)


@tool
def paint(colour: Literal["red", "green"]) -> str:
    """Paint the car."""
    return f"It is {colour}."


def main() -> None:
    """Print what came back."""
    base_url, model = sys.argv[1:]
    chat = ChatOpenAI(base_url=base_url, api_key="emulator", model=model, max_tokens=120, temperature=0, max_retries=0)
    found: dict[str, Any] = {}
    for method in ("json_schema", "function_calling", "json_mode"):
        strict = True if method == "function_calling" else None
        structured = chat.with_structured_output(Car, method=method, include_raw=True, strict=strict)
        answer = structured.invoke("Describe a car as JSON.")
        found[method] = answer["parsed"].model_dump() if answer["parsed"] else answer["raw"].content
    streamed = list(chat.with_structured_output(Car, method="json_schema").stream("Describe a car."))
    found["streamed"] = streamed[-1].model_dump()
    bound = chat.bind_tools([paint], tool_choice="paint", strict=True)
    asked = HumanMessage("Paint it.")
    called = bound.invoke([asked])
    (call,) = called.tool_calls
    found["call"] = call["name"], sorted(call["args"])
    result = ToolMessage(content="It is red.", tool_call_id=call["id"])
    found["after"] = chat.bind_tools([paint], tool_choice="none").invoke([asked, called, result]).type
    first, *others = bound.stream([asked])
    found["streamed_call"] = [item["name"] for item in sum(others, first).tool_calls]
    any_of_them = chat.bind_tools([paint], tool_choice="any", strict=True, parallel_tool_calls=False)
    found["any"] = [item["name"] for item in any_of_them.invoke([asked]).tool_calls]
    print(json.dumps(found))


main()
