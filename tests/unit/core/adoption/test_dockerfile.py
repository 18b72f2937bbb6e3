"""What a Dockerfile says about the image that is built from it."""

from __future__ import annotations

import pytest

from core.adoption.dockerfile import BuiltImage, read_dockerfile

STAGES = """\
# syntax=docker/dockerfile:1
ARG VERSION=3.12
FROM --platform=$BUILDPLATFORM python:${VERSION}-alpine AS builder
EXPOSE 8000/tcp 9000/udp
RUN pip install \\
    # a comment within
    flask
ENTRYPOINT ["python3"]
CMD ["app.py"]

FROM builder as dev
HEALTHCHECK CMD true
CMD python3 app.py --debug

FROM nginx:${NGINX:-1.27}
COPY --from=builder /app /app
"""


@pytest.mark.parametrize(
    ("target", "built"),
    [
        ("", BuiltImage(base="nginx:1.27", targets=("/app",))),
        ("builder", BuiltImage(base="python:3.12-alpine", entrypoint=("python3",), command=("app.py",), ports=(8000,))),
        (
            "DEV",
            BuiltImage(
                base="python:3.12-alpine",
                entrypoint=("python3",),
                command=("sh", "-c", "python3 app.py --debug"),
                ports=(8000,),
                checked=True,
            ),
        ),
    ],
)
def test_reads_the_stage_that_is_built(target: str, built: BuiltImage) -> None:
    assert read_dockerfile(STAGES, target=target) == built


def test_fills_in_the_arguments_of_the_build() -> None:
    assert read_dockerfile(STAGES, target="builder", arguments={"VERSION": "3.13"}).base == "python:3.13-alpine"


def test_an_entrypoint_takes_the_command_of_its_base_away() -> None:
    built = read_dockerfile('FROM a AS b\nCMD ["x"]\nFROM b\nENTRYPOINT ["y"]\n')
    assert (built.entrypoint, built.command) == (("y",), ())


@pytest.mark.parametrize(
    "text", ["", "FROM", "CMD [broken", "FROM scratch\nEXPOSE $PORT x/y\nHEALTHCHECK NONE\nONBUILD CMD x"]
)
def test_leaves_out_what_it_cannot_read(text: str) -> None:
    built = read_dockerfile(text)
    assert (built.ports, built.checked) == ((), False)
