"""Road layouts: a straight road along x, with or without a crossing road along y at the origin. Traffic keeps right."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.calibration.scenes.geometry import Path, straight
from edge_sdk.calibration.scenes.streams import Rng, chance, uniform

ROAD_REACH_M = 420.0


@dataclass(frozen=True, kw_only=True)
class Road:
    """Lanes per direction of both roads and their widths; `cross_lanes` is 0 where there is no crossing."""

    lanes: int
    cross_lanes: int
    lane_m: float
    median_m: float
    shoulder_m: float
    sidewalk_m: float
    limit_mps: float
    grip: float

    @property
    def half_m(self) -> float:
        """Distance from the axis of the main road to its kerb."""
        return self.median_m / 2 + self.lanes * self.lane_m + self.shoulder_m

    @property
    def cross_half_m(self) -> float:
        """Distance from the axis of the crossing road to its kerb (0 without one)."""
        return self.cross_lanes * self.lane_m + 0.5 if self.cross_lanes else 0.0

    @property
    def stop_m(self) -> float:
        """Distance from the axis of the crossing road to the stop line on the main road."""
        return self.cross_half_m + 4.0

    @property
    def cross_stop_m(self) -> float:
        """Distance from the axis of the main road to the stop line on the crossing road."""
        return self.half_m + 4.0

    def lane_y(self, direction: int, lane: int) -> float:
        """Centre of a lane of the main road; lane 0 is next to the axis, direction +1 drives towards +x."""
        return -direction * (self.median_m / 2 + (lane + 0.5) * self.lane_m)

    def cross_x(self, direction: int, lane: int) -> float:
        """Centre of a lane of the crossing road; direction +1 drives towards +y."""
        return direction * (lane + 0.5) * self.lane_m

    def main_path(self, direction: int, lane: int) -> Path:
        """A lane of the main road; arc length `ROAD_REACH_M` is x = 0."""
        y = self.lane_y(direction, lane)
        return straight((-direction * ROAD_REACH_M, y), (direction * ROAD_REACH_M, y))

    def cross_path(self, direction: int, lane: int) -> Path:
        """A lane of the crossing road; arc length `ROAD_REACH_M` is y = 0."""
        x = self.cross_x(direction, lane)
        return straight((x, -direction * ROAD_REACH_M), (x, direction * ROAD_REACH_M))


def draw_road(rng: Rng, *, crossing: bool, fewest_lanes: int, wet: bool) -> Road:
    """Draw a layout; wet roads lose grip."""
    lanes = max(fewest_lanes, int(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.20])))
    return Road(
        lanes=lanes,
        cross_lanes=int(rng.choice([1, 2], p=[0.6, 0.4])) if crossing else 0,
        lane_m=uniform(rng, 3.2, 3.75),
        median_m=uniform(rng, 1.0, 3.0) if lanes > 1 and not crossing and chance(rng, 0.35) else 0.0,
        shoulder_m=uniform(rng, 2.3, 2.9) if chance(rng, 0.6) else uniform(rng, 0.3, 0.8),
        sidewalk_m=uniform(rng, 1.5, 4.0),
        limit_mps=uniform(rng, 8.0, 17.0) if crossing else uniform(rng, 8.0, 24.0),
        grip=uniform(rng, 0.55, 0.75) if wet else uniform(rng, 0.8, 0.95),
    )
