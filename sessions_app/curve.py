"""How fast a job went: at most 240 samples of its rate, whose step doubles when they are full."""

from uuid import UUID

from sessions_app.models import JobCurve

MOST_SAMPLES = 240
GAP_S = 5.0
"""A silence that is longer is a gap: nobody was at work."""
Rates = list[int | None]


def noted(step_s: float, rates: Rates, at_s: float, rate: float) -> tuple[float, Rates]:
    """The step and the samples with one more; the first sample of a step counts.

    >>> noted(1, [5, 5], 3.2, 7)
    (1, [5, 5, 7, 7])
    >>> noted(1, [5, 5], 9.2, 7)
    (1, [5, 5, None, None, None, None, None, None, None, 7])
    """
    rates = list(rates)
    while at_s >= step_s * MOST_SAMPLES:
        step_s, rates = step_s * 2, [_mean(rates[at : at + 2]) for at in range(0, len(rates), 2)]
    silent = int(at_s / step_s) - len(rates)
    if silent < 0:
        return step_s, rates
    between = _whole(rate) if silent * step_s <= GAP_S else None
    return step_s, [*rates, *[between] * silent, _whole(rate)]


def _whole(rate: float) -> int:
    # As JavaScript rounds: the page goes on with the curve by itself.
    return int(rate + 0.5)


def _mean(rates: Rates) -> int | None:
    known = [rate for rate in rates if rate is not None]
    return _whole(sum(known) / len(known)) if known else None


def note(job_id: UUID, at_s: float, rate: float) -> None:
    """Add a sample to a job's curve, inside the caller's transaction, which holds the job's row."""
    curve = JobCurve.objects.filter(pk=job_id).first() or JobCurve(job_id=job_id)
    step_s, rates = noted(curve.step_s, curve.rates, at_s, rate)
    if rates != curve.rates:
        curve.step_s, curve.rates = step_s, rates
        curve.save()


def forget(job_id: UUID) -> None:
    """Begin a new curve, as the job begins a new run."""
    JobCurve.objects.filter(pk=job_id).delete()
