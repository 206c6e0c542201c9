"""The difference of two arms: means, ratios, with and without what was known before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Effect:
    """Attributes:
    difference: of the second arm to the first.
    error: standard error of it.
    """

    difference: float
    error: float

    @property
    def z(self) -> float:
        """The difference in standard errors; 0 where nothing varies."""
        return self.difference / self.error if self.error > 0 else 0.0

    @property
    def p(self) -> float:
        """Two-sided p-value."""
        from scipy.stats import norm

        return float(2 * norm.sf(abs(self.z)))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the difference.

        Args:
            level: of confidence.

        Returns:
            Both ends.
        """
        from scipy.stats import norm

        wide = float(norm.isf((1 - level) / 2)) * self.error
        return self.difference - wide, self.difference + wide


def of_means(first: np.ndarray, second: np.ndarray) -> Effect:
    """The difference of means over users (Welch).

    Args:
        first: a value of each user of the first arm.
        second: of the second one.

    Returns:
        The effect.
    """
    error = np.sqrt(first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second))
    return Effect(float(second.mean() - first.mean()), float(error))


def adjusted(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> Effect:
    """CUPED (Deng et al. 2013): as `of_means`, less what was known before the trial.

    Args:
        first: values and covariates of the first arm's users; the covariate is of before.
        second: of the second one.

    Returns:
        The effect; its variance is (1 - ρ²) of the plain one.
    """
    values = [np.asarray(arm[0], dtype=np.float64) for arm in (first, second)]
    before = [np.asarray(arm[1], dtype=np.float64) for arm in (first, second)]
    mean = np.concatenate(before).mean()
    centred = [np.stack([y - y.mean(), x - x.mean()]) for y, x in zip(values, before, strict=True)]
    pooled = np.concatenate(centred, axis=1)
    spread = float((pooled[1] ** 2).sum())
    theta = float((pooled[0] * pooled[1]).sum()) / spread if spread > 0 else 0.0
    return of_means(*(y - theta * (x - mean) for y, x in zip(values, before, strict=True)))


def of_one_ratio(over: np.ndarray, under: np.ndarray) -> Effect:
    """A ratio, such as clicks a session, with an error over users (see `of_ratios`).

    Args:
        over: numerators of the users.
        under: denominators.

    Returns:
        The ratio and its standard error.
    """
    ratio = float(over.sum() / under.sum())
    residual = over - ratio * under
    variance = float(residual.var(ddof=1) / (len(over) * under.mean() ** 2))
    return Effect(ratio, float(np.sqrt(variance)))


def of_ratios(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> Effect:
    """The difference of ratios, such as clicks a session, where users are what is assigned.

    By the delta method: Var(Σy / Σn) = (s_y² - 2 R s_yn + R² s_n²) / (U n̄²) over U users. Sessions
    of one user are alike, and taking them as independent makes errors too small.

    Args:
        first: numerators and denominators of the first arm's users.
        second: of the second one.

    Returns:
        The effect.
    """
    one, other = (of_one_ratio(*arm) for arm in (first, second))
    error = float(np.hypot(one.error, other.error))
    return Effect(other.difference - one.difference, error)


def separation(power: float = 0.8, level: float = 0.05) -> float:
    """How many standard errors an effect must be away from nothing.

    Args:
        power: chance to find it.
        level: of the two-sided test.

    Returns:
        z_{1-level/2} + z_power, 2.80 for the usual ones.
    """
    from scipy.stats import norm

    return float(norm.isf(level / 2) + norm.isf(1 - power))


def users_needed(deviation: float, effect: float, power: float = 0.8, level: float = 0.05) -> float:
    """Users an arm for a two-sided test.

    Args:
        deviation: standard deviation of a user's value.
        effect: the difference to be found.
        power: chance to find it.
        level: of the test.

    Returns:
        2 (z_{1-level/2} + z_power)² deviation² / effect².
    """
    return 2 * (separation(power, level) * deviation / effect) ** 2 if effect else float("inf")


def smallest_effect(deviation: float, users: int, power: float = 0.8, level: float = 0.05) -> float:
    """The minimum detectable effect: as `users_needed`, the other way round.

    Args:
        deviation: standard deviation of a user's value.
        users: in each arm.
        power: chance to find it.
        level: of the test.

    Returns:
        The difference.
    """
    return separation(power, level) * deviation * float(np.sqrt(2 / users))
