"""Power monitors described by folders, as the kernel's drivers show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.hardware import observe, whole_draw


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(f"{text}\n")


def ina3221(root: Path, number: int, rails: dict[str, tuple[int, int]]) -> None:
    """Three channels of mV and mA, and a fourth that has the sum of shunt voltages and no current to multiply by."""
    chip = f"sys/class/hwmon/hwmon{number}"
    put(root, f"{chip}/name", "ina3221")
    for channel, (label, (voltage_mv, current_ma)) in enumerate(rails.items(), 1):
        put(root, f"{chip}/in{channel}_label", label)
        put(root, f"{chip}/in{channel}_input", str(voltage_mv))
        put(root, f"{chip}/curr{channel}_input", str(current_ma))
        put(root, f"{chip}/curr{channel}_crit", "10000")
    put(root, f"{chip}/in7_label", "sum of shunt voltages")
    put(root, f"{chip}/in7_input", "12")


def test_an_orin_nano_has_one_rail_that_feeds_all(tmp_path: Path) -> None:
    ina3221(tmp_path, 1, {"VDD_IN": (5000, 1300), "VDD_CPU_GPU_CV": (5000, 400), "VDD_SOC": (5000, 300)})
    put(tmp_path, "sys/class/hwmon/hwmon0/name", "pwm_tach")
    rails = observe(tmp_path).power_w
    assert rails == {"VDD_IN": 6.5, "VDD_CPU_GPU_CV": 2.0, "VDD_SOC": 1.5}
    assert whole_draw(rails) == ("VDD_IN", 6.5)


def test_the_rails_of_an_agx_orin_lie_side_by_side_and_memory_s_is_within_one(tmp_path: Path) -> None:
    ina3221(tmp_path, 2, {"VDD_GPU_SOC": (12000, 500), "VDD_CPU_CV": (12000, 250), "VIN_SYS_5V0": (5000, 800)})
    ina3221(tmp_path, 3, {"NC": (0, 0), "VDDQ_VDD2_1V8AO": (5000, 100)})
    rails = observe(tmp_path).power_w
    assert rails == {"VDD_GPU_SOC": 6.0, "VDD_CPU_CV": 3.0, "VIN_SYS_5V0": 4.0, "VDDQ_VDD2_1V8AO": 0.5}
    assert whole_draw(rails) == ("VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0", 13.0)


@pytest.mark.parametrize("label", [None, "VIN"])
def test_the_input_of_a_thor_is_read_in_microwatts(tmp_path: Path, label: str | None) -> None:
    ina3221(tmp_path, 4, {"VDD_GPU": (12000, 1000), "VDD_CPU_SOC_MSS": (12000, 500)})
    put(tmp_path, "sys/class/hwmon/hwmon5/name", "ina238")
    put(tmp_path, "sys/class/hwmon/hwmon5/power1_input", "31250000")
    if label:
        put(tmp_path, "sys/class/hwmon/hwmon5/label", label)
    assert whole_draw(observe(tmp_path).power_w) == ("VIN", 31.25)


def test_a_channel_that_is_off_and_rails_that_do_not_add_up_say_nothing(tmp_path: Path) -> None:
    ina3221(tmp_path, 1, {"VDD_GPU_SOC": (12000, 500), "VDD_CPU_CV": (12000, 250), "VIN_SYS_5V0": (5000, 800)})
    put(tmp_path, "sys/class/hwmon/hwmon1/curr3_input", "")
    rails = observe(tmp_path).power_w
    assert rails == {"VDD_GPU_SOC": 6.0, "VDD_CPU_CV": 3.0}
    assert whole_draw(rails) is None
