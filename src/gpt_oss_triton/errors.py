"""Every failure a caller can meet, once: its HTTP status, its OpenAI code and its Triton code.

::

    ServiceError
    ├── InvalidRequest            400  the caller can fix it; `param` names the field
    │   ├── UnsupportedParameter  400  understood, but not served here
    │   └── ContextLengthExceeded 400  prompt and answer do not fit the model's context
    ├── Unauthenticated           401
    ├── Forbidden                 403  known, but not allowed this
    ├── NotFound                  404
    │   └── ModelNotFound         404
    ├── MethodNotAllowed          405
    ├── RequestTooLarge           413
    │   └── HeadersTooLarge       431
    ├── UnsupportedMediaType      415
    ├── RequestTimeout            408  its body took too long to come
    ├── Overloaded                429  no capacity: come back after `retry_after_s`
    │   └── RateLimited           429  the caller's own limit
    ├── Cancelled                 499  the caller went away, or asked for it
    ├── InternalError             500  our fault; the message never carries a stack trace
    ├── EngineUnavailable         503  not loaded, dead, or draining
    │   └── NotAccepted           503  it has neither taken nor refused the request, though it seemed well
    └── DeadlineExceeded          504

    ConfigurationError            not for callers: the server refuses to start

An error crosses Triton as text, because an error response carries nothing else: `to_wire` writes
``[code param] message`` and `from_wire` finds that tag again wherever Triton has put words around it.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar


class ConfigurationError(Exception):
    """The configuration or the checkpoint cannot be served; the message says what to change."""


class ServiceError(Exception):
    """Base of all errors that reach a caller.

    Attributes:
        status: HTTP status.
        type: OpenAI's `error.type`.
        code: OpenAI's `error.code`; a class without one has its parent's.
        triton_code: name of the `TritonError` code that a Python-backend response carries.
        param: the request field at fault, in OpenAI's path notation, or None.
        retry_after_s: seconds after which a retry makes sense, or None.
        headers: more of the HTTP answer's.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    triton_code: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers: dict[str, str] = {}

    def envelope(self) -> dict[str, Any]:
        """OpenAI's error body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class InvalidRequest(ServiceError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_value"
    triton_code = "INVALID_ARG"


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class Unauthenticated(ServiceError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(ServiceError):
    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(ServiceError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"
    triton_code = "NOT_FOUND"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(ServiceError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class RequestTooLarge(ServiceError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class HeadersTooLarge(RequestTooLarge):
    status = 431
    code = "headers_too_large"


class UnsupportedMediaType(ServiceError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class RequestTimeout(ServiceError):
    status = 408
    type = "timeout_error"
    code = "request_timeout"


class Overloaded(ServiceError):
    status = 429
    type = "rate_limit_error"
    code = "overloaded"
    triton_code = "UNAVAILABLE"


class RateLimited(Overloaded):
    code = "rate_limit_exceeded"


class Cancelled(ServiceError):
    status = 499
    type = "server_error"
    code = "cancelled"
    triton_code = "CANCELLED"


class InternalError(ServiceError):
    code = "internal_error"


class EngineUnavailable(ServiceError):
    status = 503
    code = "engine_unavailable"
    triton_code = "UNAVAILABLE"


class NotAccepted(EngineUnavailable):
    pass


class DeadlineExceeded(ServiceError):
    status = 504
    type = "timeout_error"
    code = "deadline_exceeded"
    triton_code = "UNAVAILABLE"


def _tree(root: type[ServiceError]) -> list[type[ServiceError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


# Children come after parents: InternalError stands for the code of both.
_BY_CODE: dict[str, type[ServiceError]] = {
    cls.code: cls for cls in _tree(ServiceError) if "code" in vars(cls)
}
_TAG = re.compile(r"\[(?P<code>[a-z_]+)(?: (?P<param>\S+))?\] (?P<message>.*)", re.DOTALL)


def to_wire(error: ServiceError) -> str:
    """One line of text that `from_wire` reads back; readable as it is for a plain Triton client."""
    tag = error.code if error.param is None else f"{error.code} {error.param}"
    return f"[{tag}] {error.message}"


def from_wire(text: str) -> ServiceError | None:
    """The error that `to_wire` wrote, or None when the text is Triton's own."""
    for match in _TAG.finditer(text):
        if (cls := _BY_CODE.get(match["code"])) is not None:
            return cls(match["message"], param=match["param"])
    return None
