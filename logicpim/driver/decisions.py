# SPDX-License-Identifier: BSD-2-Clause
"""What a policy decided for a layer, on which estimates and why, as a record that can be printed.

Costs are rooflines, or of Logic-PIM a measured table: :class:`Estimates` says which.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..llm.kinds import Attention, ModelConfig
from ..placement.attention import AttentionPolicy, AttentionQuery
from ..placement.cost_table import CostTable, attention_seconds, expert_seconds
from ..placement.costs import Costs, roofline
from ..placement.policy import Plan, Policy, Query, Unit
from ..spec.config import Config

XPU_FLOPS = 989.4e12 / 160
"""Of the xPU for each channel: an H100's FP16 peak, five stacks of 32 channels."""


@dataclass(frozen=True)
class Decision:
    """What ran where in a layer, and why.

    Parameters
    ----------
    what : str
        ``experts`` or ``attention``.
    phase : str
    step, layer : int
        Passes before this one, and the layer.
    items : list of dict
        Experts with tokens, or sequences: ``index``, ``tokens`` (and ``context``), ``where``, and
        the estimates ``xpu_s`` and ``pim_s``.
    seconds, xpu_s, pim_s : float
        Estimated time of the layer, and how long each processor works in it.
    why : str
        The sentence of the rule.
    """

    what: str
    phase: str
    step: int
    layer: int
    items: list[dict]
    seconds: float
    xpu_s: float
    pim_s: float
    why: str


def _decision(plan: Plan, items: list[dict], **at) -> Decision:
    places = plan.places
    items = [item | {"where": str(places[item["index"]])} for item in items]
    return Decision(items=items, seconds=plan.seconds, xpu_s=plan.busy(Unit.XPU),
                    pim_s=plan.busy(Unit.PIM), why=plan.why, **at)


def decide_experts(policy: Policy, query: Query, *, step: int, layer: int
                   ) -> tuple[Plan, Decision]:
    """A policy's plan for the experts of a layer, and the record of it."""
    plan = policy(query)
    items = [{"index": e, "tokens": query.tokens[e], "xpu_s": query.costs.xpu(query.tokens[e]),
              "pim_s": query.costs.pim(query.tokens[e])} for e in query.active]
    return plan, _decision(plan, items, what="experts", phase=query.stage, step=step, layer=layer)


def decide_attention(policy: AttentionPolicy, query: AttentionQuery, *, phase: str, step: int,
                     layer: int) -> tuple[Plan, Decision]:
    """Likewise for its attention."""
    plan = policy(query)
    items = [{"index": i, "tokens": tokens, "context": context,
              "xpu_s": query.xpu(tokens, context), "pim_s": query.pim(tokens, context)}
             for i, (tokens, context) in enumerate(query.sequences)]
    return plan, _decision(plan, items, what="attention", phase=phase, step=step, layer=layer)


class Estimates:
    """Times of experts and attention on a configuration and on the xPU beside it.

    The xPU's are rooflines: for each channel the 1/160 of an H100's FP16 peak and the ordinary
    path, a granule a clock. Logic-PIM's are rooflines of its tiles and of the added TSVs, or, with
    a table, measured clocks.

    Parameters
    ----------
    config : Config
    model : ModelConfig
    table : CostTable, optional
        Refused with LogicPimError if it is of another configuration.
    bundles : int
        Memory spaces that matrices are dealt over; only with a table.
    weights : str
        Format of the experts' weights on Logic-PIM.
    whole : bool
        Experts run as one program with their activation; only with a table.
    """

    def __init__(self, config: Config, model: ModelConfig, table: CostTable | None = None, *,
                 bundles: int = 1, weights: str = "fp16", whole: bool = False):
        self.config, self.model, self.table = config, model, table
        self._bundles, self._weights, self._whole = bundles, weights, whole
        if table is not None:
            table.check(config)
        rate = config.clock_hz * config.channels
        self._xpu = {"peak": XPU_FLOPS * config.channels,
                     "bandwidth": rate * config.granule_bytes}
        self._pim = {"peak": 2 * config.tile.macs * rate, "bandwidth": rate * config.beat_bytes}

    @property
    def source(self) -> str:
        """``roofline`` or ``table``."""
        return "roofline" if self.table is None else "table"

    def experts(self) -> Costs:
        """Of one expert by its tokens."""
        expert, hidden = self.model.expert, self.model.hidden_size
        sizes = (len(expert.matrices), hidden, expert.width)
        if self.table is None:
            pim = roofline(*sizes, **self._pim)
        else:
            pim = expert_seconds(
                self.table, hidden=hidden, width=expert.width, matrices=len(expert.matrices),
                channels=self.config.channels, bundles=self._bundles, weights=self._weights,
                whole=self._whole)
            pim(1)  # says what the table lacks, before the work
        return Costs(xpu=roofline(*sizes, **self._xpu), pim=pim)

    def attention(self, a: Attention, sequences: Sequence[tuple[int, int]]) -> AttentionQuery:
        """What to ask about a layer's attention of sequences of (new tokens, context)."""
        def line(peak, bandwidth):
            def seconds(tokens, context):
                rows = a.group * tokens
                flops = 2 * rows * context * (a.head_dim + a.value_dim)
                moved = 2 * (rows + context) * (a.head_dim + a.value_dim) + 4 * rows * context
                return a.kv_heads * max(flops / peak, moved / bandwidth)
            return seconds
        pim = line(**self._pim)
        if self.table is not None:
            pim = attention_seconds(
                self.table, kv_heads=a.kv_heads, group=a.group,
                size=max(a.head_dim, a.value_dim), channels=self.config.channels,
                bundles=self._bundles)
        return AttentionQuery(sequences=tuple(sequences), xpu=line(**self._xpu), pim=pim,
                              group=a.group)


class AttentionDecisions:
    """Callable as ``decide`` of an :class:`~.attend.AttentionRunner`: asks a policy for attention.

    Attributes
    ----------
    decisions : list of Decision
        One for each kind of layer and context that was asked for, with the first such layer.
    """

    def __init__(self, estimates: Estimates, policy: AttentionPolicy):
        self.decisions: list[Decision] = []
        self._estimates, self._policy = estimates, policy
        self._known: dict[tuple[int, int], bool] = {}

    def __call__(self, a: Attention, context: int) -> bool:
        """Whether Logic-PIM attends for one new token, ``context`` with it."""
        key = id(a), context
        if key not in self._known:
            blocks = self._estimates.model.blocks
            layer = next(i for i, block in enumerate(blocks) if block.attention is a)
            seen = min(context, a.window or context)
            plan, decision = decide_attention(
                self._policy, self._estimates.attention(a, [(1, seen)]), phase="decode",
                step=sum(kind == id(a) for kind, _ in self._known), layer=layer)
            self.decisions.append(decision)
            self._known[key] = plan.places[0] == Unit.PIM
        return self._known[key]
