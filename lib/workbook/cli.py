"""The command line `workbook`. Each command imports its own modules, so `--help` answers at once."""

import os
import signal
import sys
import traceback as tracebacks
from pathlib import Path
from typing import Annotated

import typer

from lib.core.errors import WorkbookError
from lib.core.paths import resolve, shown
from lib.serve.limits import Limits

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Type how you feel, get songs: make a run, look at it, serve it.",
)
Run = Annotated[str, typer.Argument(help="Folder of a finished run.")]
QUICK = "params/quick.yaml"
CURRENT = "outputs/current"
DEFAULT = Limits()


@app.command(epilog="`workbook params` lists the parameters.")
def run(
    params: Annotated[str, typer.Argument(metavar="[PARAMS]", help="Parameter file.")] = QUICK,
    values: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Parameters that override the file's.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run every notebook, also those that are up to date.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the whole traceback of an error.")] = False,
) -> None:
    """Run notebooks 01 to 05 and print the results.

    Notebooks run again only where their text, parameters, code or input files changed. After an error or Ctrl-C, run
    the same command again: it continues with the notebook that was running.
    """
    from lib.workbook import parameters, report, runner

    values = values or []
    if "=" in params and not Path(params).exists():  # no file was named, only values
        params, values = QUICK, [params, *values]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        record = runner.run(parameters.read(resolve(params), values), params, fresh)
    except (KeyboardInterrupt, WorkbookError, OSError) as error:
        if traceback:
            tracebacks.print_exc()
        if isinstance(error, KeyboardInterrupt):
            message = "stopped. Run the same command again: it continues with the notebook that was running."
            raise WorkbookError(message) from error
        raise
    print(report.summary(resolve(record["parameters"]["run_dir"])))


@app.command()
def params() -> None:
    """List the parameters of all notebooks: names, defaults and meanings."""
    from lib.workbook import parameters

    print(parameters.listing())


@app.command(name="import")
def import_(
    file: Annotated[str, typer.Argument(help="A table, a library of a player, or a folder of music.")],
    table: Annotated[str, typer.Option(help="The table of a database, the sheet, or the file in a zip file.")] = "",
    encoding: Annotated[str, typer.Option(help="The encoding, where the recognised one is wrong: cp1251.")] = "",
    separator: Annotated[str, typer.Option(help="The separator, where the recognised one is wrong.")] = "",
    column: Annotated[
        list[str] | None, typer.Option(help="Our column and yours, where it is not recognised: title=Lied.")
    ] = None,
) -> None:
    """Show how a catalogue of yours is read, and write a parameter file for it."""
    from lib.tracks import importing, preview

    here = Path(os.path.expanduser(file))  # noqa: PTH111 - Path.expanduser fails for ~nobody
    options = {"table": table, "encoding": encoding, "separator": separator}
    reading = {key: value for key, value in options.items() if value}
    if wrong := [text for text in column or [] if "=" not in text]:
        raise WorkbookError(f"--column {wrong[0]}: write our column, =, and yours: --column title=Lied.")
    columns = dict(text.partition("=")[::2] for text in column or [])
    path = os.path.realpath(here) if here.exists() else file
    try:
        catalogue = importing.import_catalogue(path, columns, {}, reading, {}, max_tracks=0, seed=7)
    except WorkbookError as error:
        raise WorkbookError(preview.with_option(str(error))) from error
    except KeyboardInterrupt as error:
        raise WorkbookError("stopped: no parameter file was written.") from error
    print(preview.text(catalogue))
    print(f"\n{preview.next_step(catalogue.record, shown(preview.write_parameters(catalogue, reading)))}")


@app.command()
def serve(
    run: Annotated[str, typer.Option(help="The run to serve. A link is followed when it moves.")] = CURRENT,
    ip: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
    kernels: Annotated[int, typer.Option(min=1, help="Processes, each with a model of its own.")] = DEFAULT.kernels,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; more are answered 429.")] = DEFAULT.queue,
    batch: Annotated[int, typer.Option(min=1, help="Requests that a kernel takes at once.")] = DEFAULT.batch,
    time_limit: Annotated[
        float, typer.Option(min=0.001, max=3600, help="Seconds for an answer; then 503.")
    ] = DEFAULT.time,
    start_limit: Annotated[
        float, typer.Option(min=0.001, max=3600, help="Seconds for a kernel to start.")
    ] = DEFAULT.start,
    no_token: Annotated[bool, typer.Option("--no-token", help="Serve other machines without a token.")] = False,
    log_text: Annotated[bool, typer.Option("--log-text", help="Log the requests' text, too.")] = False,
    cors: Annotated[
        list[str] | None, typer.Option(help="A site whose pages may send requests: https://app.example; * for any.")
    ] = None,
) -> None:
    """Serve POST /recommend until Ctrl-C or SIGTERM."""
    from lib.serve import gateway

    gateway.serve(run, ip, port, Limits(kernels, queue, batch, time_limit, start_limit), no_token, log_text, cors or ())


@app.command()
def ask(
    text: Annotated[str, typer.Argument(help="A listener's wish in words.")],
    run: Annotated[str, typer.Option(help="The run to serve if no service runs yet.")] = CURRENT,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The service's port.")] = 8080,
) -> None:
    """Ask the running service for songs; without one, start it, ask, and stop it again."""
    from lib.workbook import ask as asking

    print(asking.ask(text, run, port))


@app.command(epilog="`workbook params` lists the parameters of notebook 08.")
def learn(
    run: Run = CURRENT,
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Parameters: lake=s3://lake/events n_pairs=2000"),
    ] = None,
) -> None:
    """Train the next model on what listeners did, and serve it if it is better than the last."""
    from lib.workbook import learning

    print(learning.learn(run, values or []))


@app.command()
def promote(run: Run) -> None:
    """Check a run, then serve it from now on; a running service follows within seconds."""
    from lib.serve import promotion

    print(promotion.promote(run))


@app.command()
def rollback() -> None:
    """Serve the previous run again."""
    from lib.serve import promotion

    print(promotion.rollback())


@app.command()
def index(
    run: Run,
    kind: Annotated[str | None, typer.Option("--index", help="exact, lists or auto; by default as before.")] = None,
) -> None:
    """Index a run's catalogue again with the model it has; only new texts are embedded."""
    from lib.search import indexing

    print(f"{run} is indexed: {indexing.reindex(resolve(run), kind):,} tracks.")


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="Folders of finished runs; the first is the reference.")],
    out: Annotated[str, typer.Option(help="The page to write.")] = "outputs/compare.html",
) -> None:
    """Compare runs: parameters, figures and answers, as a table and a page."""
    from lib.performance import compare as comparison

    print(comparison.write(runs, resolve(out)))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def playground(context: typer.Context, run: Run = CURRENT) -> None:
    """Open notebook 06 as a page in Voilà until Ctrl-C. Options after RUN are Voilà's: outputs/quick --port 8900."""
    from lib.workbook import voila

    voila.open_playground(run, context.args)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 after an error in one line, 2 after a wrong usage."""
    while (free := os.open(os.devnull, os.O_RDWR)) < 3:  # stands for a closed stdin, stdout or stderr
        pass
    os.close(free)
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
        stream.reconfigure(errors="replace")  # a terminal may lack "…"
    try:
        app(arguments, prog_name="workbook")
    except SystemExit as stop:
        return int(stop.code or 0)
    except (WorkbookError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
