"""What a control plane hands out, so that a new host needs one command: the program, and the script that installs it.

None of it is a secret, and who asks has no credential yet.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import FileResponse, PlainTextResponse, Response

from adapters.server.program import SCRIPT, program_to_hand_out
from models.settings import current_settings

INSTALL = "/roas/install"


def install_file(path: str) -> Response:
    """The answer to a request at or below INSTALL: the script, the wheel's name, the wheel, or its requirements."""
    program = program_to_hand_out(current_settings())
    if program is None:
        text = "This control plane has no program to hand out; install it on the host by hand.\n"
        return PlainTextResponse(text, HTTPStatus.NOT_FOUND)
    match path.removeprefix(INSTALL).removeprefix("/"):
        case "":
            return FileResponse(SCRIPT, media_type="text/x-shellscript")
        case "wheel":
            return PlainTextResponse(f"{program.wheel.name}\n")
        case program.wheel.name:
            return FileResponse(program.wheel)
        case program.requirements.name:
            return FileResponse(program.requirements)
    return PlainTextResponse("There is no such file.\n", HTTPStatus.NOT_FOUND)
