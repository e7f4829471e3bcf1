"""The demo's endpoint: published, asked as a client does, and its page kept."""

import pathlib

from experiments.shown import households
from export import serving
from export.artefact import origin
from export.artefact import publishing
from export.artefact import versions
from export.calling import clients
from jtm_tf.command_line import program
from jtm_tf.data import interactions
from jtm_tf.models import tree_model
from jtm_tf.runs import trained
from jtm_tf.search import rounding
from jtm_tf.types import PAD


def publish(
    run_dir: pathlib.Path, data_dir: pathlib.Path, base: pathlib.Path
) -> None:
    """Exports a run into a folder of versions, unless that is done."""
    if not versions.existing(base):
        run = trained.load(run_dir, data_dir)
        publishing.publish(origin.Origin(run), base, versions.choose(base))


def ask(
    server: serving.Server,
    data: interactions.Interactions,
    model: tree_model.TreeModel,
    household: households.Household,
) -> str:
    """Asks for a household as a client does, by gRPC.

    Returns:
        What the endpoint recommends, and whether the model itself does, but
        for ties: the endpoint rounds otherwise.
    """
    seen, offered = household.seen, household.offered
    address = f"{serving.Config().host}:{server.grpc_port}"
    with clients.Client(target=address, model=server.name) as client:
        answer = client.recommend([data.item_ids.of(seen[seen != PAD])])
    items = data.item_ids.numbers(answer.ids[0])
    equal = (
        len(items) == len(offered)
        and rounding.same_answers(
            model,
            seen[None],
            items[None],
            offered[None],
            beam_width=households.BEAM_WIDTH,
        ).all()
    )
    shown = data.item_names(items[: households.LINES])
    return "\n".join(
        [
            f"Version {answer.version} of {server.name}, served by gRPC, "
            "recommends",
            *(f"      {name}" for name in shown),
            f"and {max(0, len(items) - households.LINES)} more: "
            + ("what" if equal else "NOT what")
            + " the model itself recommends.",
        ]
    )


def keep_page(server: serving.Server) -> None:
    """Tells where the page is, and keeps it until Ctrl-C or SIGTERM."""
    told_to_end = program.told_to_end()
    address = f"http://{serving.Config().host}:{server.rest_port}/"
    print(f"\nTry it yourself: {address} (Ctrl-C ends it)", flush=True)
    told_to_end.wait()
