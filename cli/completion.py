"""`roas completion`: the script that lets a shell complete commands, options and values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from cli.completers import VARIABLE
from flows.common.terminal import echo

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a shell: commands, options, environments, services and ids.

    \b
    bash  echo 'eval "$(roas completion bash)"' >> ~/.bashrc
    zsh   echo 'eval "$(roas completion zsh)"' >> ~/.zshrc, after the line with compinit
    fish  roas completion fish > ~/.config/fish/completions/roas.fish
    """
    kind = get_completion_class(shell)
    if kind is not None:
        from cli.main import roas

        # Not `source`: for bash it starts one to ask for its version.
        script = kind(roas, {}, "roas", VARIABLE)
        echo(script.source_template % script.source_vars())
