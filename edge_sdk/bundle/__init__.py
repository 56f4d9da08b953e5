"""A model on disk: one folder with a manifest that vouches for every byte in it.

`folder` opens and writes it; `manifest` and `manifest_language` say what its manifest may hold, `manifest_text` reads
and writes that. `pins` tells whether it is the one that was meant, `signing` who has signed it. `proof` is what few
bits cost, `student_origin` where its student comes from, `show` tells people all of it. The one that travels with the
package lies in `edge_sdk/bundles`.
"""

from edge_sdk.bundle.folder import Bundle, default_bundle, open_bundle, rewrite, write_bundle

__all__ = ["Bundle", "default_bundle", "open_bundle", "rewrite", "write_bundle"]
