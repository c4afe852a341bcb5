"""Entry point: runs a command and turns every outcome into an exit code.

    0    done, nothing detected
    1    an audit found something
    2    the user can fix it: three lines say what happened, the value and what to do
    3    our fault: every error that nobody foresaw
    4    a claim named with --require was not testable
    130  interrupted; everything finished so far is kept

A command's module is imported when the command runs, and the engines within it later still, so that `--help` is quick.
"""

import contextlib
import sys
import traceback
from collections.abc import Sequence

import typer

from undertow import __version__
from undertow.cli import (
    audit_models,
    audits,
    bench,
    catalogue,
    constitutions,
    data,
    mitigations,
    models,
    planning,
    remote,
    stages,
    studies,
    sweeps,
)
from undertow.errors import UserError, missing_extra, out_of_memory

DONE, USER, FAULT, INTERRUPTED = 0, 2, 3, 130

app = typer.Typer(
    name="undertow",
    help="Study subliminal learning: a student model takes over its teacher's hidden traits through unrelated data.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(studies.demo)
app.command()(studies.run)
app.command()(sweeps.sweep)
app.command()(studies.report)
app.command()(stages.generate)
app.command(name="filter")(stages.filter_)
app.command()(stages.train)
app.command(name="train-remote")(remote.train_remote)
app.command(name="eval")(stages.evaluate)
app.command()(data.convert)
app.command()(data.publish)
app.command()(audits.check)
app.command()(models.check_model)
audits.audit.add_typer(bench.bench, name="bench")
app.add_typer(audit_models.audit, name="audit")
app.add_typer(mitigations.mitigate, name="mitigate")
app.add_typer(constitutions.monitor, name="monitor")
app.command()(planning.power)
app.add_typer(catalogue.reference, name="reference")
app.command(name="list")(catalogue.list_)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"undertow {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    del version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    Args:
        arguments: what follows the program's name; those of the process if not given. `--debug` anywhere among them
            adds a traceback to an error.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        code = app([word for word in words if word != "--debug"], standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # typer turns the interrupt into this code
            raise KeyboardInterrupt
        return code if isinstance(code, int) else DONE
    except (KeyboardInterrupt, typer.Abort):
        return _failed(
            "Interrupted.\nEverything finished so far is kept; the same command goes on from there.", 130, debug
        )
    except BrokenPipeError:
        # The reader of the pipe has gone; without this, Python complains once more while it shuts down.
        with contextlib.suppress(OSError):
            sys.stderr.close()
        return DONE
    except typer.TyperException as error:
        return _failed(f"{error}\n{' '.join(words)}\nSee undertow --help.", USER, debug)
    except UserError as error:
        return _failed(str(error), USER, debug)
    except Exception as error:
        if known := out_of_memory(error, " ".join(words)) or missing_extra(error):
            return _failed(str(known), USER, debug)
        what = f"Something went wrong inside Undertow.\n{type(error).__name__}: {error}"
        return _failed(f"{what}\nRun it again with --debug and report what it prints.", FAULT, debug)


def _failed(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
