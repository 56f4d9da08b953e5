"""Turns a plan into a model to draw: ground, buildings, trees, lamp posts, people and the moving cars."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from edge_sdk.calibration.scenes.bodies import (
    BODY_KINDS,
    WITH_LEGS,
    body_mesh,
    body_palette,
    hard_contacts,
    leg_meshes,
)
from edge_sdk.calibration.scenes.debris import Part, draw_parts
from edge_sdk.calibration.scenes.plan import ScenePlan
from edge_sdk.calibration.scenes.smoke import Puff, draw_puffs
from edge_sdk.calibration.scenes.streams import Rng, chance, stream, uniform
from edge_sdk.calibration.scenes.textures import (
    GROUND_HALF_M,
    Ground,
    Image,
    car_palette,
    facade,
    foliage,
    paint_ground,
)
from edge_sdk.calibration.scenes.vehicles import Mesh, MeshBuilder, Paint, Vehicle

_FAR_M = 420.0
# The physics have run already: what is drawn collides with nothing.
_UNTOUCHABLE = 'contype="0" conaffinity="0"'


@dataclass(frozen=True)
class Walker:
    """A person walking along a sidewalk."""

    x_m: float
    y_m: float
    speed_mps: float


@dataclass
class Stage:
    """A model in MJCF with its textures, and what the renderer moves or lights."""

    xml: str = ""
    textures: dict[str, Image] = field(default_factory=dict)
    walkers: list[Walker] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    puffs: list[Puff] = field(default_factory=list)
    street_lamps: list[tuple[float, float]] = field(default_factory=list)
    shadows: bool = False
    fog: bool = False


class _Model:
    """Collects assets and bodies."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.assets: list[str] = []
        self.bodies: list[str] = []

    def texture(self, name: str, image: Image, emission: float = 0.0, specular: float = 0.0) -> None:
        """Add a texture and a material of the same name."""
        rows, columns, _ = image.shape
        self.stage.textures[name] = image
        self.assets.append(
            f'<texture name="{name}" type="2d" builtin="flat" width="{columns}" height="{rows}"/>'
            f'<material name="{name}" texture="{name}" emission="{emission}" specular="{specular}" '
            f'shininess="0.6"/>'
        )

    def mesh(self, name: str, mesh: Mesh) -> None:
        """Add a mesh asset."""
        self.assets.append(
            f'<mesh name="{name}" inertia="shell" vertex="{_numbers(mesh.vertices)}" face="{_numbers(mesh.faces)}" '
            f'texcoord="{_numbers(mesh.texcoords)}"/>'
        )

    def geom(self, mesh: str, material: str, extra: str = "") -> str:
        """A drawn, untouchable geometry."""
        return f'<geom type="mesh" mesh="{mesh}" material="{material}" {_UNTOUCHABLE} {extra}/>'


def _numbers(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | np.ndarray[tuple[int, ...], np.dtype[np.int32]],
) -> str:
    return " ".join(f"{v:.5g}" if isinstance(v, float) else str(v) for v in values.reshape(-1).tolist())


def build_stage(plan: ScenePlan) -> Stage:
    """The model of a plan, the same for every size and frame rate."""
    rng = stream(plan.seed, "scenery")
    stage = Stage()
    model = _Model(stage)
    night, day = plan.conditions.light == "night", plan.conditions.light == "day"
    low, high = _reach(plan)
    ground = paint_ground(rng, plan.road, low, high, plan.conditions.weather == "rain")
    model.texture("ground", ground.image)
    model.mesh("ground", _ground_mesh(ground))
    model.bodies.append(model.geom("ground", "ground"))
    _buildings(rng, model, plan, low, high, night)
    _trees(rng, model, plan, low, high)
    _posts(rng, model, plan, low, high)
    _walkers(rng, model, plan, low, high)
    _cars(rng, model, plan, lights_on=not day or plan.conditions.weather != "clear" or chance(rng, 0.3))
    hard = hard_contacts(plan.track, plan.cars)
    _debris(model, draw_parts(stream(plan.seed, "debris"), hard))
    _smoke(model, draw_puffs(stream(plan.seed, "smoke"), hard, plan.cars))
    # A shadow pass costs as much as the picture: only clear days have one, and not all of them.
    stage.shadows = day and plan.conditions.weather == "clear" and chance(rng, 0.55)
    stage.fog = plan.conditions.weather == "fog"
    stage.xml = _document(rng, model, plan)
    return stage


def _reach(plan: ScenePlan) -> tuple[float, float]:
    """The stretch of x to paint: what the camera passes or faces."""
    mount = plan.mount
    if mount.car is None:
        return mount.x_m - 130.0, mount.x_m + 130.0
    xs = plan.track.pose[:, mount.car, 0]
    return float(xs.min()) - 90.0, float(xs.max()) + 150.0


def _ground_mesh(ground: Ground) -> Mesh:
    """The painted patch, continued outwards by stretching its border pixels."""
    builder = MeshBuilder()
    rows, columns, _ = ground.image.shape
    du, dv = 0.5 / columns, 0.5 / rows
    xs = [ground.low_m - _FAR_M, ground.low_m, ground.high_m, ground.high_m + _FAR_M]
    ys = [-GROUND_HALF_M - _FAR_M, -GROUND_HALF_M, GROUND_HALF_M, GROUND_HALF_M + _FAR_M]
    us, vs = [du, du, 1 - du, 1 - du], [dv, dv, 1 - dv, 1 - dv]
    for i in range(3):
        for j in range(3):
            points = [
                (xs[i], ys[j], 0.0),
                (xs[i + 1], ys[j], 0.0),
                (xs[i + 1], ys[j + 1], 0.0),
                (xs[i], ys[j + 1], 0.0),
            ]
            uv = [(us[i], vs[j]), (us[i + 1], vs[j]), (us[i + 1], vs[j + 1]), (us[i], vs[j + 1])]
            builder.polygon(points, uv)
    # MuJoCo refuses a flat mesh: one buried triangle gives it a volume.
    builder.polygon([(0.0, 0.0, -9.0), (1.0, 0.0, -9.0), (0.0, 1.0, -9.0)], [(0.5, 0.5)] * 3)
    return builder.build()


def _wall_box(builder: MeshBuilder, low: tuple[float, float], high: tuple[float, float], height: float) -> None:
    """A building: four facades with windows of about 3 m and a plain roof."""
    (x0, y0), (x1, y1) = low, high
    ring = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    for (ax, ay), (bx, by) in zip(ring, ring[1:] + ring[:1], strict=True):
        across, up = math.hypot(bx - ax, by - ay) / 12.0, height / 12.0
        builder.polygon(
            [(ax, ay, 0.0), (bx, by, 0.0), (bx, by, height), (ax, ay, height)],
            [(0, 0), (across, 0), (across, up), (0, up)],
        )
    builder.polygon([(x, y, height) for x, y in ring], [(0.01, 0.01)] * 4)


def _buildings(rng: Rng, model: _Model, plan: ScenePlan, low: float, high: float, night: bool) -> None:
    """Rows of houses on both sides; open country has none."""
    style = rng.random()
    if style < 0.2:
        return
    fill, tallest = (0.9, 26.0) if style > 0.65 else (0.5, 11.0)
    builders = [MeshBuilder() for _ in range(3)]
    used = set()
    road = plan.road
    for side in (1, -1):
        x = low - 10.0
        while x < high:
            width, height = uniform(rng, 8.0, 24.0), uniform(rng, 4.0, tallest)
            front = road.half_m + max(road.sidewalk_m, 5.0) + uniform(rng, 1.0, 6.0)
            clear = not road.cross_lanes or x > road.cross_half_m + 6 or x + width < -road.cross_half_m - 6
            if clear and chance(rng, fill):
                pick = int(rng.integers(3))
                used.add(pick)
                depth = uniform(rng, 8, 16)
                ys = sorted((side * front, side * (front + depth)))
                _wall_box(builders[pick], (x, ys[0]), (x + width, ys[1]), height)
            x += width + (0.0 if style > 0.65 and chance(rng, 0.6) else uniform(rng, 1.5, 12.0))
    for pick in sorted(used):
        model.texture(f"facade{pick}", facade(rng, night), emission=0.3 if night else 0.0)
        model.mesh(f"facade{pick}", builders[pick].build())
        model.bodies.append(model.geom(f"facade{pick}", f"facade{pick}"))


def _hides(plan: ScenePlan, x: float, y: float, margin_m: float) -> bool:
    """Whether something at (x, y) stands in front of a fixed camera."""
    mount = plan.mount
    if mount.car is not None:
        return False
    ahead = math.cos(mount.yaw_rad) * (x - mount.x_m) + math.sin(mount.yaw_rad) * (y - mount.y_m)
    aside = -math.sin(mount.yaw_rad) * (x - mount.x_m) + math.cos(mount.yaw_rad) * (y - mount.y_m)
    return math.hypot(x - mount.x_m, y - mount.y_m) < margin_m or (0 < ahead < 45 and abs(aside) < 2 + 0.45 * ahead)


def _beside(rng: Rng, plan: ScenePlan, low: float, high: float, near: float, far: float) -> tuple[float, float] | None:
    """A place beside the road, off the crossing road."""
    x, side = uniform(rng, low, high), 1.0 if chance(rng, 0.5) else -1.0
    y = side * (plan.road.half_m + uniform(rng, near, far))
    if plan.road.cross_lanes and abs(x) < plan.road.cross_half_m + plan.road.sidewalk_m + 1.0:
        return None
    return x, y


def _trees(rng: Rng, model: _Model, plan: ScenePlan, low: float, high: float) -> None:
    builder, count = MeshBuilder(), 0
    for _ in range(int(rng.integers(0, 34))):
        place = _beside(rng, plan, low, high, 1.2, 9.0)
        if place is None or _hides(plan, *place, 10.0):
            continue
        count += 1
        _tree(rng, builder, *place)
    if count:
        model.texture("foliage", foliage(rng))
        model.mesh("trees", builder.build())
        model.bodies.append(model.geom("trees", "foliage"))


def _tree(rng: Rng, builder: MeshBuilder, x: float, y: float) -> None:
    """A trunk and a rough ball of leaves."""
    trunk, radius = uniform(rng, 1.5, 3.0), uniform(rng, 1.2, 2.6)
    bark = [(0.5, 0.03)] * 4
    for (ax, ay), (bx, by) in (
        ((-0.15, -0.15), (0.15, -0.15)),
        ((0.15, -0.15), (0.15, 0.15)),
        ((0.15, 0.15), (-0.15, 0.15)),
        ((-0.15, 0.15), (-0.15, -0.15)),
    ):
        builder.polygon(
            [(x + ax, y + ay, 0), (x + bx, y + by, 0), (x + bx, y + by, trunk + 1), (x + ax, y + ay, trunk + 1)], bark
        )
    levels, spokes = (-0.8, -0.2, 0.45, 0.95), 6
    rings = []
    for level in levels:
        wide = radius * math.sqrt(max(1 - level * level, 0.05))
        rings.append(
            [
                (
                    x + wide * math.cos(a) * uniform(rng, 0.75, 1.2),
                    y + wide * math.sin(a) * uniform(rng, 0.75, 1.2),
                    trunk + radius * (1 + level) * uniform(rng, 0.9, 1.1),
                )
                for a in np.linspace(0, 2 * math.pi, spokes, endpoint=False)
            ]
        )
    for below, above in pairwise(rings):
        for i in range(spokes):
            j, u, v = (i + 1) % spokes, uniform(rng, 0, 1), uniform(rng, 0.3, 0.8)
            builder.polygon(
                [below[i], below[j], above[j], above[i]], [(u, v), (u + 0.4, v), (u + 0.4, v + 0.3), (u, v + 0.3)]
            )


def _posts(rng: Rng, model: _Model, plan: ScenePlan, low: float, high: float) -> None:
    """Lamp posts; at night they light the road."""
    builder, spacing = MeshBuilder(), uniform(rng, 22.0, 45.0)
    lit = chance(rng, 0.8)
    for side in (1, -1) if chance(rng, 0.5) else (1,):
        for x in np.arange(low + uniform(rng, 0, spacing), high, spacing):
            y = side * (plan.road.half_m + 0.7)
            if plan.road.cross_lanes and abs(x) < plan.road.cross_half_m + 1.0:
                continue
            if lit:
                model.stage.street_lamps.append((float(x), side * (plan.road.half_m - 1.2)))
            if not _hides(plan, float(x), y, 6.0):
                builder.box((x - 0.09, y - 0.09, 0.0), (x + 0.09, y + 0.09, 7.5), Paint.TRIM)
                ys = sorted((y + side * 0.1, y - side * 1.9))
                builder.box((x - 0.12, ys[0], 7.4), (x + 0.12, ys[1], 7.55), Paint.CARGO)
    mesh = builder.build()
    if len(mesh.vertices):
        model.texture("posts", car_palette(rng, False))
        model.mesh("posts", mesh)
        model.bodies.append(model.geom("posts", "posts"))


def _walkers(rng: Rng, model: _Model, plan: ScenePlan, low: float, high: float) -> None:
    """A few people on the sidewalks."""
    for _ in range(int(rng.integers(0, 5))):
        place = _beside(rng, plan, low + 40, high - 60, 0.5, plan.road.sidewalk_m)
        if place is None or _hides(plan, *place, 5.0):
            continue
        model.stage.walkers.append(Walker(*place, uniform(rng, -1.7, 1.7)))
        shirt = " ".join(f"{v:.2f}" for v in rng.uniform(0.1, 0.8, 3))
        model.bodies.append(
            f'<body name="walker{len(model.stage.walkers) - 1}" mocap="true">'
            f'<geom type="capsule" fromto="0 0 0.25 0 0 1.35" size="0.22" rgba="{shirt} 1" {_UNTOUCHABLE}/>'
            f'<geom type="sphere" pos="0 0 1.65" size="0.14" rgba=".7 .55 .45 1" {_UNTOUCHABLE}/></body>'
        )


def _brake_mesh(vehicle: Vehicle) -> Mesh:
    """Three brake lamps just behind the bodywork."""
    builder = MeshBuilder()
    rear, side = -vehicle.length_m / 2 - 0.05, vehicle.width_m / 2
    base = 0.7 if vehicle.height_m > 2.8 else 0.40 * vehicle.height_m
    for y0, y1, z in ((0.5, 0.97, base), (-0.97, -0.5, base), (-0.2, 0.2, base + 0.35)):
        builder.box((rear, y0 * side, z), (rear + 0.06, y1 * side, z + 0.18), Paint.TAIL_LIGHT)
    return builder.build()


def _cars(rng: Rng, model: _Model, plan: ScenePlan, lights_on: bool) -> None:
    glow = np.full((4, len(Paint), 3), 255, np.uint8)
    model.texture("brake", glow, emission=1.0)
    for i, car in enumerate(plan.cars):
        palette = body_palette(rng, car.vehicle, lights_on)
        if i == plan.ego:
            continue
        model.texture(f"car{i}", palette, specular=0.35)
        model.mesh(f"car{i}", body_mesh(car.vehicle))
        model.bodies.append(
            f'<body name="car{i}" mocap="true">{model.geom(f"car{i}", f"car{i}")}'
            f"{_changing(model, i, car.vehicle)}</body>"
        )


def _changing(model: _Model, i: int, vehicle: Vehicle) -> str:
    """The geometries that appear and disappear: brake lamps of a vehicle, the two phases of legs."""
    if vehicle.kind in WITH_LEGS:
        for phase, mesh in enumerate(leg_meshes(vehicle)):
            model.mesh(f"legs{i}.{phase}", mesh)
        return "".join(
            model.geom(f"legs{i}.{phase}", f"car{i}", f'name="legs{i}.{phase}" rgba="1 1 1 1"') for phase in (0, 1)
        )
    if vehicle.kind in BODY_KINDS:
        return ""
    model.mesh(f"brake{i}", _brake_mesh(vehicle))
    return model.geom(f"brake{i}", "brake", f'name="brake{i}" rgba="0 0 0 0" ')


def _debris(model: _Model, parts: list[Part]) -> None:
    model.stage.parts = parts
    for i, part in enumerate(parts):
        size, grey = " ".join(f"{v:.3f}" for v in part.size_m), f"{part.grey:.2f}"
        model.bodies.append(
            f'<body name="part{i}" mocap="true"><geom type="box" size="{size}" rgba="{grey} {grey} {grey} 1" '
            f"{_UNTOUCHABLE}/></body>"
        )


def _smoke(model: _Model, puffs: list[Puff]) -> None:
    model.stage.puffs = puffs
    for i, puff in enumerate(puffs):
        rgb = f"{puff.grey:.2f} " * 3
        model.bodies.append(
            f'<body name="puff{i}" mocap="true"><geom name="puff{i}" type="sphere" size="1" rgba="{rgb} 0" '
            f"{_UNTOUCHABLE}/></body>"
        )


def _sky(rng: Rng, plan: ScenePlan) -> tuple[str, str]:
    """Colours of the horizon and the zenith."""
    light, weather = plan.conditions.light, plan.conditions.weather
    if light == "night":
        top, low = np.array([0.02, 0.02, 0.04]), np.array([0.10, 0.09, 0.09]) * uniform(rng, 0.5, 1.5)
    elif light == "dusk":
        top, low = np.array([0.22, 0.27, 0.42]), np.array([0.70, 0.52, 0.42]) * uniform(rng, 0.7, 1.1)
    elif weather != "clear" or chance(rng, 0.35):
        top = low = np.array([0.72, 0.74, 0.76]) * uniform(rng, 0.75, 1.2)
    else:
        top, low = np.array([0.30, 0.48, 0.78]) * uniform(rng, 0.8, 1.2), np.array([0.75, 0.83, 0.92])
    return _numbers(np.clip(low, 0, 1).astype(np.float32)), _numbers(np.clip(top, 0, 1).astype(np.float32))


def _document(rng: Rng, model: _Model, plan: ScenePlan) -> str:
    horizon, zenith = _sky(rng, plan)
    light = plan.conditions.light
    ambient = {"day": uniform(rng, 0.35, 0.55), "dusk": uniform(rng, 0.3, 0.45), "night": 0.6}[light]
    diffuse = {"day": uniform(rng, 0.45, 0.75), "dusk": uniform(rng, 0.2, 0.35), "night": 0.3}[light]
    sun, height = uniform(rng, 0, 2 * math.pi), uniform(rng, 0.5, 1.8)
    centre = plan.track.pose[len(plan.track.pose) // 2, 0, :2]
    fog_end = uniform(rng, 80, 220)
    return f"""<mujoco>
<compiler discardvisual="false"/>
<statistic extent="100" center="{centre[0]} {centre[1]} 0"/>
<visual><quality offsamples="0" shadowsize="512"/>
<headlight ambient="{ambient} {ambient} {ambient}" diffuse="0 0 0" specular="0 0 0"/>
<map znear="0.004" zfar="8" fogstart="{fog_end * 0.01 * 0.05}" fogend="{fog_end * 0.01}" shadowclip="0.6"/>
<rgba fog="{horizon} 1"/></visual>
<asset><texture type="skybox" builtin="gradient" rgb1="{horizon}" rgb2="{zenith}" width="64" height="64"/>
{"".join(model.assets)}</asset>
<worldbody><light directional="true" pos="{centre[0]} {centre[1]} 60" dir="{math.cos(sun)} {math.sin(sun)} {-height}"
 diffuse="{diffuse} {diffuse} {diffuse}" specular=".3 .3 .3" ambient="0 0 0"/>
<body name="camera" mocap="true"><camera name="camera" fovy="{math.degrees(plan.mount.fov_y_rad)}"/></body>
{"".join(model.bodies)}</worldbody></mujoco>"""
