"""Mean losses over validation rows; they do not depend on the layout."""

from torch import Tensor

from sesame.pretrain.data.stages import AnyBatches
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.stop import StepAgreement


def validation_losses(
    engine: Engine, batches: AnyBatches, rows: int, mesh: Mesh, agreement: StepAgreement
) -> dict[str, float] | None:
    """Return the mean losses over the first ``rows`` of the validation split by objective; a collective.

    Returns:
        None if a signal has interrupted it.
    """
    engine.train(False)
    sums: dict[str, Tensor] = {}
    stopped = False
    for batch in batches.validation_batches(rows):
        agreement.ask()
        for name, loss in engine.evaluate(batch.to(mesh.device)).items():
            sums[name] = sums.get(name, 0.0) + loss
        if stopped := agreement.answer().stops:
            break
    engine.train(True)
    return None if stopped else {name: float(mesh.sum_over_data(loss.clone())) for name, loss in sums.items()}
