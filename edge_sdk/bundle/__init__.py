"""A model on disk: one folder with a manifest that lists and hashes every file in it.

`folder` opens and writes bundles. `manifest` and `manifest_language` define what the manifest may hold, and
`manifest_text` reads and writes it. `pins` checks that a bundle is the intended one, and `signing` signs it. `proof`
holds what quantisation cost, `student_origin` where the student comes from, and `show` describes a bundle to people.
The demo bundle that ships with the package is in `edge_sdk/bundles`.
"""

from edge_sdk.bundle.folder import Bundle, default_bundle, open_bundle, rewrite, write_bundle

__all__ = ["Bundle", "default_bundle", "open_bundle", "rewrite", "write_bundle"]
