"""Make certificates: `python -m deploy.tls make FOLDER`."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from deploy.local.programs import SERVICES
from deploy.tls.authority import DAYS, make
from deploy.tls.folder import PEOPLE

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def _verbs() -> None:
    """Certificates of one installation."""


@app.command("make")
def make_certificates(
    folder: Annotated[Path, typer.Argument(help="Where they lie; the authority's key, too.")],
    days: Annotated[float, typer.Option(help="How long a certificate is good.")] = DAYS,
    renew: Annotated[
        bool, typer.Option("--renew", help="Replace those that are still good, too.")
    ] = False,
) -> None:
    """Make the authority and a certificate for each service, `operator` and `prometheus`.

    What is there is kept while more than a third of its time is left. Services that run take up
    a renewed one by themselves.
    """
    names = (*SERVICES, *PEOPLE)
    made = make(folder, names, valid=timedelta(days=days), renew=renew)
    kept = len(names) - len(made)
    typer.echo(f"{folder}: made {', '.join(made) or 'none'}; kept {kept}, each good long enough")


if __name__ == "__main__":
    app(prog_name="python -m deploy.tls")
