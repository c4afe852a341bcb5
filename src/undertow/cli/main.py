"""Entry point: runs a command and turns every outcome into an exit code.

    0    done; of an audit: something could be tested, and nothing was detected
    1    an audit detected something, or found a defect of its inputs
    2    the user can fix it: three lines say what happened, the value and what to do
    3    our fault: every error that nobody foresaw
    4    of an audit: nothing that was asked for could be tested, or a claim named with --require could not
    130  interrupted; everything finished so far is kept

What takes time to load, the engines above all, is imported within the command that needs it, so that `--help` is quick.
"""

import contextlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from undertow import __version__
from undertow.cli import (
    catalogue,
    checks,
    constitutions,
    generation,
    mitigations,
    models,
    question_proposals,
    rows,
    signing,
    studies,
    training,
    trait_checks,
)
from undertow.errors import UserError, missing_extra, out_of_memory

DONE, USER, FAULT, INTERRUPTED = 0, 2, 3, 130

STUDY, AUDIT, MITIGATE, MONITOR, THINGS = "Study", "Audit", "Mitigate", "Monitor", "Models and data"
PANELS = (STUDY, AUDIT, MITIGATE, MONITOR, THINGS)

START = """Undertow finds, removes and watches what a model takes over from another model's outputs, unseen.
Where to start:

  undertow demo                                 see it happen, on models that come with the package
  undertow check --teacher MODEL --base MODEL   could this teacher pass something to a student of this base?
  undertow audit data rows.jsonl --base MODEL   were these rows written under a trait? before you train on them
  undertow mitigate advise audit/audit.json     what can be done about what an audit found
  undertow monitor --help                       watch a model that is deployed
  undertow list recipes                         every study that can be run as it is

undertow --help lists every command; undertow COMMAND --help explains one."""


class Panels(TyperGroup):
    """Command group whose help lists commands under the job that they serve, in plain text.

    typer itself shows such panels only with rich.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section of the help for each job that has commands."""
        shown = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))]
        limit = formatter.width - 6 - max(len(name) for name, _ in shown)
        for panel in PANELS:
            own = [
                (name, one.get_short_help_str(limit)) for name, one in shown if vars(one)["rich_help_panel"] == panel
            ]
            if own:
                with formatter.section(panel):
                    formatter.write_dl(own)


app = typer.Typer(
    name="undertow",
    cls=Panels,
    help="Study subliminal learning: a student model takes over hidden traits of its teacher through unrelated data.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    (STUDY, "demo", studies.demo_command),
    (STUDY, "run", studies.run_command),
    (STUDY, "sweep", studies.sweep_command),
    (STUDY, "report", studies.report_command),
    (STUDY, "power", studies.power_command),
    (AUDIT, "check", checks.check_command),
    (THINGS, "check-model", models.check_model_command),
    (THINGS, "check-trait", trait_checks.check_trait_command),
    (THINGS, "propose-questions", question_proposals.propose_questions_command),
    (THINGS, "generate", generation.generate_command),
    (THINGS, "filter", rows.filter_command),
    (THINGS, "train", training.train_command),
    (THINGS, "train-remote", training.train_remote_command),
    (THINGS, "eval", models.eval_command),
    (THINGS, "convert", rows.convert_command),
    (THINGS, "publish", rows.publish_command),
    (THINGS, "list", catalogue.list_command),
)
for panel, name, command in COMMANDS:
    app.command(name, rich_help_panel=panel)(command)
app.add_typer(signing.audit, name="audit", rich_help_panel=AUDIT)
app.add_typer(mitigations.mitigate, name="mitigate", rich_help_panel=MITIGATE)
app.add_typer(constitutions.monitor, name="monitor", rich_help_panel=MONITOR)
app.add_typer(catalogue.reference, name="reference", rich_help_panel=THINGS)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"undertow {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", "-V", callback=_version, is_eager=True, help="Print the version of Undertow and stop."
    ),
) -> None:
    del version
    if context.invoked_subcommand is None:
        print(START)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: the words after the program's name. None takes those of the process. `--debug` anywhere among them
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
            "Interrupted.\nWhat a store or a journal holds by now is kept, and the same command goes on from there; "
            "without one it begins anew.",
            INTERRUPTED,
            debug,
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
