"""MuJoCo behind two small classes: planar physics of cars, and offscreen drawing of a scene.

This is the only module of the room that imports mujoco, and it does so on first use.
"""

from __future__ import annotations

import atexit
import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.calibration.scenes.geometry import Floats
from edge_sdk.calibration.scenes.vehicles import Vehicle
from edge_sdk.errors import MissingDependencyError

# A soft, damped contact stands in for crumpling bodywork: about 0.1 s of contact and half a metre of crush at 15 m/s.
_CONTACT = 'solref="0.05 1.1" solimp="0.9 0.95 0.3" friction="0.35 0.005 0.0001"'

# People and loose things are smaller than that depth of crush: they get a stiff contact, which overrides the soft one.
_STIFF_CONTACT = 'solref="0.015 1.1" solimp="0.95 0.99 0.05" friction="0.35 0.005 0.0001" priority="1"'
_STIFF_KINDS = ("pedestrian", "cyclist", "object")


def _mujoco() -> Any:
    # EGL draws without a display; one thread per process because the processes share the cores.
    os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("LP_NUM_THREADS", "1")
    try:
        return importlib.import_module("mujoco")
    except ImportError as error:
        raise MissingDependencyError(
            f"rendered scenes need mujoco and EGL ({error}); install the extra [scenes] and libegl1 libgl1-mesa-dri"
        ) from error


@dataclass(frozen=True)
class Touch:
    """Two cars in contact, and where."""

    first: int
    second: int
    x_m: float
    y_m: float


class PlanarWorld:
    """Cars as boxes that slide and turn in the plane; contacts are MuJoCo's, every other force is the caller's."""

    def __init__(self, vehicles: Sequence[Vehicle], step_s: float) -> None:
        mujoco = _mujoco()
        bodies = "".join(_physics_body(i, vehicle) for i, vehicle in enumerate(vehicles))
        self._mujoco = mujoco
        self._model = mujoco.MjModel.from_xml_string(
            f'<mujoco><option timestep="{step_s}" gravity="0 0 0" integrator="Euler"/>'
            f"<worldbody>{bodies}</worldbody></mujoco>"
        )
        self._data = mujoco.MjData(self._model)
        shape = (len(vehicles), 3)
        self.pose: Floats = self._data.qpos.reshape(shape)
        self.velocity: Floats = self._data.qvel.reshape(shape)
        self.force: Floats = self._data.qfrc_applied.reshape(shape)

    def step(self) -> None:
        """Advance by one time step under `force` (N, N, N m per car)."""
        self._mujoco.mj_step(self._model, self._data)

    def touches(self) -> list[Touch]:
        """The contacts found in the last step."""
        data = self._data
        if data.ncon == 0:
            return []
        body = self._model.geom_bodyid
        found = []
        for contact in data.contact:
            first, second = sorted((int(body[contact.geom1]) - 1, int(body[contact.geom2]) - 1))
            found.append(Touch(first, second, float(contact.pos[0]), float(contact.pos[1])))
        return found


def _physics_body(index: int, vehicle: Vehicle) -> str:
    length, width, height = vehicle.length_m, vehicle.width_m, vehicle.height_m
    contact = _STIFF_CONTACT if vehicle.kind in _STIFF_KINDS else _CONTACT
    return (
        f'<body name="car{index}" pos="0 0 {height / 2}"><joint type="slide" axis="1 0 0"/>'
        f'<joint type="slide" axis="0 1 0"/><joint type="hinge" axis="0 0 1"/>'
        f'<geom type="box" size="{length / 2} {width / 2} {height / 2}" mass="{vehicle.mass_kg}" {contact}/></body>'
    )


@dataclass(frozen=True)
class Pose3d:
    """Position in metres and rotation matrix of something drawn."""

    position: Floats
    rotation: Floats


class Studio:
    """Draws one compiled scene offscreen; moving things are mocap bodies, the camera among them ("camera")."""

    def __init__(
        self, xml: str, textures: Mapping[str, NDArray[np.uint8]], size: tuple[int, int], *, shadows: bool, fog: bool
    ) -> None:
        self._mujoco = mujoco = _mujoco()
        self._model = model = mujoco.MjModel.from_xml_string(xml)
        for name, image in textures.items():
            texture = model.texture(name).id
            start = int(model.tex_adr[texture])
            model.tex_data[start : start + image.size] = image.reshape(-1)
        model.vis.global_.offwidth, model.vis.global_.offheight = size
        self._data = mujoco.MjData(model)
        self._size = size
        self._gl = gl_context()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 16)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera("camera").id
        self._option, self._perturb = mujoco.MjvOption(), mujoco.MjvPerturb()
        flags = mujoco.mjtRndFlag
        self._scene.flags[flags.mjRND_SHADOW] = shadows
        self._scene.flags[flags.mjRND_FOG] = fog
        self._scene.flags[flags.mjRND_REFLECTION] = False
        self._scene.flags[flags.mjRND_HAZE] = False

    def place(self, body: str, pose: Pose3d) -> None:
        """Move a mocap body."""
        index = int(self._model.body(body).mocapid[0])
        self._data.mocap_pos[index] = pose.position
        self._mujoco.mju_mat2Quat(self._data.mocap_quat[index], np.ascontiguousarray(pose.rotation).reshape(9))

    def tint(self, geom: str, rgba: tuple[float, float, float, float]) -> None:
        """Recolour a geometry from the next frame on."""
        self._model.geom(geom).rgba[:] = rgba

    def resize(self, geom: str, radius_m: float) -> None:
        """Change the radius of a drawn sphere from the next frame on."""
        self._model.geom(geom).size[0] = radius_m

    def frame(self) -> NDArray[np.uint8]:
        """Draw and read one RGB frame [height, width, 3]."""
        mujoco, model, data = self._mujoco, self._model, self._data
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        mujoco.mjv_updateScene(
            model, data, self._option, self._perturb, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        width, height = self._size
        viewport = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(viewport, self._scene, self._context)
        image = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(image, None, viewport, self._context)
        return image[::-1]

    def close(self) -> None:
        """Free the graphics memory of this scene."""
        self._context.free()


_context: list[Any] = []


def gl_context() -> Any:
    """This process's EGL context, made current; one per process, because making one is slow."""
    _mujoco()
    if not _context:
        try:
            # The size given here is unused under EGL: drawing goes to an offscreen buffer of the model's size.
            _context.append(importlib.import_module("mujoco.egl").GLContext(64, 64))
        except Exception as error:
            raise MissingDependencyError(
                f"no EGL context ({error}); install libegl1 and libgl1-mesa-dri, and leave MUJOCO_GL unset or at egl"
            ) from error
        # Freed before mujoco ends its display, which also happens at exit.
        atexit.register(_context[0].free)
    _context[0].make_current()
    return _context[0]
