"""Operating points by name: a bundle's student runs at one of the points that were fitted for it."""

from __future__ import annotations

import msgspec

from edge_sdk.bundle.manifest import OperatingPoint, Student
from edge_sdk.errors import UnknownNameError


def points_of(student: Student) -> dict[str, OperatingPoint]:
    """Every operating point of the student by its name, the default one among them."""
    others = () if student.operating_points is msgspec.UNSET else student.operating_points
    return {point.name: point for point in (*others, student.operating_point)}


def at_point(student: Student, name: str) -> Student:
    """The student with the operating point called `name` as its default. Raises `UnknownNameError`."""
    points = points_of(student)
    if name not in points:
        raise UnknownNameError("operating point of this bundle's student", name, list(points))
    if name == student.operating_point.name:
        return student
    others = tuple(point for point in points.values() if point.name != name)
    return msgspec.structs.replace(student, operating_point=points[name], operating_points=others)
