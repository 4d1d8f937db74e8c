"""The command `q2l`: registers the commands, and turns errors into one sentence.

Nothing heavy is imported here or at the top of a command's file: `q2l --help` must answer at once.
"""

from __future__ import annotations

import errno
import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from query2label.cli.config import config_command
from query2label.cli.data import data_app
from query2label.cli.doctor import doctor_command
from query2label.cli.evaluate import evaluate_command
from query2label.cli.explain import explain_command
from query2label.cli.export import export_command
from query2label.cli.import_checkpoint import import_command
from query2label.cli.predict import predict_command
from query2label.cli.report import report_command
from query2label.cli.rethreshold import rethreshold_command
from query2label.cli.serve import serve_command
from query2label.cli.terminal import printable
from query2label.cli.thresholds import thresholds_command
from query2label.cli.train import train_command
from query2label.errors import Q2LError


class CommandGroup(TyperGroup):
    """Prints an error of ours as one sentence and ends with code 2; Ctrl-C ends with 130."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the chosen command."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()  # while its error can still be told
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT} or ctx.params["debug"]:
                raise
            sys.stdout = io.StringIO()  # Python would try to write the rest once more at its end
            typer.echo("Error: No room to write the output: free some space and start again.", err=True)
            raise typer.Exit(2) from None
        except Q2LError as error:
            if ctx.params["debug"]:
                raise
            typer.echo(f"Error: {printable(str(error))}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="q2l",
    cls=CommandGroup,
    help="Learn every label that your photos show, see where the model looked, and ship it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> bool:
    if wanted:
        from query2label import __version__

        typer.echo(f"query2label {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="Q2L_DEBUG", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command("train")(train_command)
app.command("evaluate")(evaluate_command)
app.command("report")(report_command)
app.command("predict")(predict_command)
app.command("rethreshold")(rethreshold_command)
app.command("explain")(explain_command)
app.command("export")(export_command)
app.command("serve")(serve_command)
app.command("import")(import_command)
app.command("thresholds")(thresholds_command)
app.add_typer(data_app, name="data")
app.command("config")(config_command)
app.command("doctor")(doctor_command)


def main() -> None:
    """Runs `q2l` with the arguments of this process."""
    app()
