"""llama.cpp's half of `llama_speed.py`; run by the interpreter of an environment that has llama-cpp-python and gguf.

It reads the task and the weights from a folder, writes a GGUF file of them once, measures, and prints JSON. All six
questions as sequences of one batch over a shared cache is what llama.cpp does best here; one after the other with the
prefix kept is what its server does with six requests in a row.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import time
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np

F32, F16 = 0, 1


def write_gguf(folder: Path, sizes: dict[str, Any]) -> Path:
    """The weights of `folder` as a file of the architecture qwen2, matrices in Q4_0 as they lie there."""
    path = folder / "model.gguf"
    if path.exists():
        return path
    writer = gguf.GGUFWriter(path.with_suffix(".part"), "qwen2")
    writer.add_block_count(sizes["layers"])
    writer.add_context_length(32_768)
    writer.add_embedding_length(sizes["hidden"])
    writer.add_feed_forward_length(sizes["intermediate"])
    writer.add_head_count(sizes["heads"])
    writer.add_head_count_kv(sizes["kv_heads"])
    writer.add_rope_freq_base(sizes["rope_theta"])
    writer.add_layer_norm_rms_eps(sizes["eps"])
    writer.add_vocab_size(sizes["vocab"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    for file in sorted((folder / "tensors").iterdir()):
        values = np.load(file, mmap_mode="r")
        packed = gguf.GGMLQuantizationType.Q4_0 if values.dtype == np.uint8 else None
        writer.add_tensor(file.stem, values, raw_dtype=packed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".part").rename(path)
    return path


def load_backends(folder: Path | None) -> None:
    """Let ggml choose among the builds of its CPU backend that `folder` holds, the best for this processor."""
    llama_cpp.llama_backend_init()
    if folder is not None:
        load = ctypes.CDLL(str(folder / "libggml.so")).ggml_backend_load_all_from_path
        load.argtypes = [ctypes.c_char_p]
        load(str(folder).encode())


class Llama:
    """A context with one cache for seven sequences: the clip, and six questions behind it."""

    def __init__(self, path: Path, task: dict[str, Any], cache_type: int, flash: bool) -> None:
        self._quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        settings = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx, wanted.n_batch, wanted.n_ubatch = task["slots"], 2048, task["ubatch"]
        wanted.n_seq_max, wanted.kv_unified = 7, True
        wanted.n_threads = wanted.n_threads_batch = task["threads"]
        wanted.type_k = wanted.type_v = cache_type
        wanted.flash_attn_type = int(flash)
        self.context = llama_cpp.llama_init_from_model(self.model, wanted)
        if not self.context:
            raise SystemExit("llama.cpp made no context")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.vocab = task["sizes"]["vocab"]
        self.batch = llama_cpp.llama_batch_init(2048, 0, 1)
        self.calls = 0

    def decode(self, tokens: list[tuple[int, int, int, bool]]) -> list[int]:
        """Take in (id, position, sequence, whether its logits are wanted); the likeliest token after each wanted."""
        said = []
        for start in range(0, len(tokens), 2048):
            part = tokens[start : start + 2048]
            self.batch.n_tokens = len(part)
            for at, (token, position, sequence, wanted) in enumerate(part):
                self.batch.token[at], self.batch.pos[at], self.batch.logits[at] = token, position, wanted
                self.batch.n_seq_id[at], self.batch.seq_id[at][0] = 1, sequence
            if code := llama_cpp.llama_decode(self.context, self.batch):
                raise SystemExit(f"llama_decode gave {code}")
            self.calls += 1
            for at, (*_, wanted) in enumerate(part):
                if wanted:
                    row = llama_cpp.llama_get_logits_ith(self.context, at)
                    said.append(int(np.ctypeslib.as_array(row, (self.vocab,)).argmax()))
        llama_cpp.llama_synchronize(self.context)
        return said

    def clip(self, ids: list[int]) -> None:
        """Begin anew with the clip."""
        llama_cpp.llama_memory_clear(self.memory, True)
        self.decode([(token, at, 0, False) for at, token in enumerate(ids)])

    def together(self, clip: int, questions: list[list[int]], lengths: list[int]) -> tuple[list[list[int]], float]:
        """All questions as sequences of one batch; their tokens, and when the questions were in."""
        for number in range(1, len(questions) + 1):
            llama_cpp.llama_memory_seq_cp(self.memory, 0, number, -1, -1)
        tokens = [
            (token, clip + at, number, at == len(ids) - 1)
            for number, ids in enumerate(questions, 1)
            for at, token in enumerate(ids)
        ]
        found = [[token] for token in self.decode(tokens)]
        questions_s = time.perf_counter()
        while going := [n for n, own in enumerate(found) if len(own) < lengths[n]]:
            step = [(found[n][-1], clip + len(questions[n]) + len(found[n]) - 1, n + 1, True) for n in going]
            for n, token in zip(going, self.decode(step), strict=True):
                found[n].append(token)
        for number in range(1, len(questions) + 1):
            llama_cpp.llama_memory_seq_rm(self.memory, number, -1, -1)
        return found, questions_s

    def apart(self, clip: int, questions: list[list[int]], lengths: list[int]) -> list[list[int]]:
        """One question after the other behind the kept clip."""
        found = []
        for ids, length in zip(questions, lengths, strict=True):
            last = len(ids) - 1
            own = self.decode([(token, clip + at, 0, at == last) for at, token in enumerate(ids)])
            while len(own) < length:
                own += self.decode([(own[-1], clip + len(ids) + len(own) - 1, 0, True)])
            llama_cpp.llama_memory_seq_rm(self.memory, 0, clip, -1)
            found.append(own)
        return found


def main() -> None:
    """Measure what the folder's `task.json` says; JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help="only write the GGUF file")
    parser.add_argument("--backends", type=Path, help="folder of ggml's libraries, where they are chosen by processor")
    chosen = parser.parse_args()
    task = json.loads((chosen.folder / "task.json").read_text())
    path = write_gguf(chosen.folder, task["sizes"])
    if chosen.write:
        return
    load_backends(chosen.backends)
    ids, questions, lengths = task["clip"], task["questions"], task["lengths"]
    found = []
    # The cache in the element type of ours, and as llama.cpp has it unless told otherwise, with its fused attention.
    for name, cache_type, flash in (("float32 cache", F32, False), ("float16 cache, flash attention", F16, True)):
        llama = Llama(path, task, cache_type, flash)
        llama.clip(ids[:64])
        for _ in range(task["rounds"]):
            begun_s = time.perf_counter()
            llama.clip(ids)
            clip_s = time.perf_counter()
            llama.calls = 0
            said, questions_s = llama.together(len(ids), questions, lengths)
            together_s = time.perf_counter()
            calls, llama.calls = llama.calls, 0
            alone = llama.apart(len(ids), questions, lengths)
            found.append(
                {
                    "name": name,
                    "clip_s": clip_s - begun_s,
                    "questions_s": questions_s - clip_s,
                    "steps_s": together_s - questions_s,
                    "apart_s": time.perf_counter() - together_s,
                    "calls": calls,
                    "apart_calls": llama.calls,
                    "tokens": said,
                    "apart_equal": said == alone,
                }
            )
        llama_cpp.llama_free(llama.context)
        llama_cpp.llama_model_free(llama.model)
    told = llama_cpp.llama_print_system_info().decode()
    print(json.dumps({"version": llama_cpp.__version__, "system": told, "runs": found}))


if __name__ == "__main__":
    main()
