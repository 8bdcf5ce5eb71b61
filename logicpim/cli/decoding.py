# SPDX-License-Identifier: BSD-2-Clause
"""A model made ready to be decoded on a device, as the options of ``run`` say."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..driver.attend import AttentionRunner, reason, sequence_heads
from ..driver.backends import open_device
from ..driver.decisions import AttentionDecisions
from ..driver.decode import Decoder
from ..driver.experts import ExpertRunner, place_experts
from ..driver.kv_cache import KvCache
from ..driver.memory import Memory
from ..driver.placed import PlacedExperts
from ..driver.report import cost, placements
from ..driver.stats import Stats
from ..llm.attention import NumpyAttention
from ..llm.checkpoint import Checkpoint
from ..llm.config import load_config
from ..llm.decoder import Model, NumpyExperts
from ..placement import ATTENTION, SHARED
from ..spec.isa import BYTE_FORMATS, Format
from .explain import costs_key, decisions_key, estimates, read_costs
from .io import Progress, bundles_of, config_of, scale_group_of, with_formats
from .trace import check_trace, wants_trace


class Decoding:
    """A model, a device and, while :meth:`opened`, a decoder.

    Parameters
    ----------
    args : namespace
        Of ``run``.
    progress : Progress

    Attributes
    ----------
    config : Config
    model : ModelConfig
    checkpoint : Checkpoint
    weights : Format
    """

    def __init__(self, args, progress: Progress):
        self.args, self.progress = args, progress
        self.config = config_of(args)
        check_trace(args)
        self.table = read_costs(args)
        progress("reading the model")
        self.model = load_config(args.model)
        self.checkpoint = Checkpoint(args.model, self.model)
        self.weights = Format[args.weights.upper()]

    @contextmanager
    def opened(self, room: int | None = None, length: int = 0) -> Iterator[tuple]:
        """(device, decoder).

        Raises CapacityError at once if weights and a sequence of ``length`` do not fit the DRAM.
        ``room`` is that of the KV cache if it is in numpy, in tokens.
        """
        args, model, progress = self.args, self.model, self.progress
        checkpoint = self.checkpoint
        bundles = bundles_of(args, self.config)
        self.config = config = with_formats(self.config, self.weights)
        self.group = scale_group_of(args, config) or 0
        memory = Memory(config)
        place_experts(config, model, bundles, self.weights, memory)
        options = {"bundles": bundles, "weights": args.weights}
        made = estimates(config, model, self.table, attention=args.attention == "policy",
                         **options)
        self.attends = AttentionDecisions(made, ATTENTION[args.policy])
        if args.attention != "xpu":
            sequence_heads(KvCache(config, memory, bundles), model, 0, length)
        self.rounded = (sorted(checkpoint.formats - {"F16"}) if self.weights == Format.FP16
                        else [])
        if self.rounded:
            progress.note(f"the experts' weights are {', '.join(self.rounded)}: rounded to FP16")
        numpy_model = Model(model, checkpoint)
        self._notes()
        check = args.backend != "reference" if args.check is None else args.check

        def loading(done, layers):
            progress(f"loading layer {done} of {layers}")

        with (open_device(args.backend, config, trace=wants_trace(args), port=args.port,
                          progress=progress) as device,
              open_device("reference", config) as golden):
            experts, reference = (
                ExpertRunner(each, model, checkpoint, loading, bundles, self.weights, self.group)
                if wanted else None for each, wanted in ((device, True), (golden, check)))
            attention = [each and self._attention(each, room) for each in (experts, reference)]
            if (args.policy != "pim_only" or args.explain) and model.experts:
                on_xpu = NumpyExperts(model, checkpoint)
                costs = estimates(config, model, self.table, **options, whole=experts.whole
                                  ).experts()
                experts, reference = (
                    each and PlacedExperts(each, on_xpu, SHARED[args.policy], costs,
                                           config.dram.bundles // bundles, args.explain)
                    for each in (experts, reference))
            self.device = device
            self.decoder = Decoder(numpy_model, experts, reference, *attention)
            progress.clear()
            yield device, self.decoder
        progress.clear()

    def result(self) -> dict:
        """The keys of what has been decoded."""
        args, decoder = self.args, self.decoder
        stats = {**decoder.experts.stats, **getattr(decoder.attention, "stats", {})}
        total = Stats.of(stats.values())
        return {
            "backend": args.backend, "config": self.config.name, "channels": self.config.channels,
            "matches_reference": True if args.backend == "reference" else decoder.matches,
            "weights": args.weights,
            "scale_group": self.group if self.weights in BYTE_FORMATS else None,
            "rounded_to_fp16": self.rounded, "policy": args.policy, "attention": args.attention,
            "costs": costs_key(args, self.table), **self._decisions(),
            "placements": placements(self.config, decoder.operations, stats),
            **cost(self.config, total),
            "stalls": total.stalls if self.device.timed else {},
        }

    def _decisions(self) -> dict:
        """The key ``decisions`` with --explain."""
        if not self.args.explain:
            return {}
        mine = getattr(self.decoder.experts, "decisions", ())
        return {"decisions": decisions_key([*mine, *self.attends.decisions])}

    def _attention(self, experts: ExpertRunner, room):
        """What attends beside these experts."""
        if self.args.attention == "xpu":
            return NumpyAttention(self.model, room)
        decide = (self.attends,) if self.args.attention == "policy" else ()
        return AttentionRunner(experts.kernels, self.model, experts.memory,
                               bundles_of(self.args, self.config), *decide)

    def _notes(self) -> None:
        """Say what of the model does not run on Logic-PIM."""
        model, wanted = self.model, self.args.attention != "xpu"
        reasons = [reason(self.config, block.attention) for block in model.blocks[model.encoder:]]
        if wanted and any(reasons):
            self.progress.note(f"attention runs on the xPU: {next(filter(None, reasons))}")
        if not model.experts:
            self.progress.note("the model has no experts: " + (
                "attention of decode steps runs on Logic-PIM, all else"
                if wanted and None in reasons else "all of it") + " on the xPU, in numpy")
