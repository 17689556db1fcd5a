//! The one table of GGUF names. They are uniform over families: what a page says of its own files is only whether
//! their converter reorders the rows of queries and keys, and which of several rows for a module is theirs.

use super::{GgufOrder, Names, Order, Row, Stored, fused, ignored, row};

/// Names in a GGUF file of a family whose own table is `own`.
pub fn gguf(own: &Names) -> Names {
    let order = match own.gguf_order {
        GgufOrder::Plain => Order::Plain,
        GgufOrder::Interleaved => Order::Interleaved,
    };
    let heads = |row: Row| Row { order, ..row };
    let mut rows = vec![
        row("token_embd", "embed"),
        row("position_embd", "embed.positions"),
        row("token_types", "embed.types"),
        row("token_embd_norm", "embed.norm"),
        row("output_norm", "norm"),
        row("output", "head"),
        row("blk.{layer}.attn_norm", "attention.norm"),
        heads(row("blk.{layer}.attn_q", "attention.q")),
        heads(row("blk.{layer}.attn_k", "attention.k")),
        row("blk.{layer}.attn_v", "attention.v"),
        fused("blk.{layer}.attn_qkv", &["attention.q", "attention.k", "attention.v"]),
        row("blk.{layer}.attn_output", "attention.o"),
        row("blk.{layer}.attn_q_norm", "attention.q_norm"),
        row("blk.{layer}.attn_k_norm", "attention.k_norm"),
        row("blk.{layer}.attn_sinks", "attention.sinks"),
        row("blk.{layer}.post_attention_norm", "attention.post_norm"),
        row("blk.{layer}.attn_output_norm", "attention.output_norm"),
        row("blk.{layer}.ffn_norm", "mlp.norm"),
        row("blk.{layer}.layer_output_norm", "mlp.output_norm"),
        row("blk.{layer}.post_attention_norm", "mlp.norm"),
        row("blk.{layer}.post_ffw_norm", "mlp.post_norm"),
        row("blk.{layer}.ffn_gate", "mlp.gate"),
        row("blk.{layer}.ffn_up", "mlp.up"),
        row("blk.{layer}.ffn_down", "mlp.down"),
        fused("blk.{layer}.ffn_up", &["mlp.gate", "mlp.up"]),
        row("blk.{layer}.ffn_norm", "residual.norm"),
        row("blk.{layer}.ffn_gate", "residual.gate"),
        row("blk.{layer}.ffn_up", "residual.up"),
        row("blk.{layer}.ffn_down", "residual.down"),
        row("blk.{layer}.ffn_norm_exps", "experts.norm"),
        row("blk.{layer}.ffn_gate_inp", "router"),
        row("blk.{layer}.ffn_gate_shexp", "shared.gate"),
        row("blk.{layer}.ffn_up_shexp", "shared.up"),
        row("blk.{layer}.ffn_down_shexp", "shared.down"),
    ];
    for (slot, stacked, single) in [
        ("expert.gate", "blk.{layer}.ffn_gate_exps", "blk.{layer}.ffn_gate.{expert}"),
        ("expert.up", "blk.{layer}.ffn_up_exps", "blk.{layer}.ffn_up.{expert}"),
        ("expert.down", "blk.{layer}.ffn_down_exps", "blk.{layer}.ffn_down.{expert}"),
    ] {
        rows.extend([row(stacked, slot).stored(Stored::Stacked), row(single, slot)]);
    }
    // A row of slots that the family does not have would only make the way back ambiguous.
    let has = |slot: &&'static str| own.rows.iter().any(|row| row.slots.contains(slot));
    rows.retain(|row| row.slots.iter().all(has));
    for (module, slots) in own.gguf_slots {
        rows.retain(|row| row.module != *module || row.slots == *slots);
        rows.sort_by_key(|row| row.module != *module);
    }
    let factors = "factors of the rotary frequencies, read with the configuration";
    Names { norms_plus_one: true, ..Names::new(rows) }.ignoring(&[
        ignored("rope_freqs.weight", factors),
        ignored("rope_factors_long.weight", factors),
        ignored("rope_factors_short.weight", factors),
        ignored("blk.{layer}.attn_rot_embd", "computed from the configuration"),
    ])
}
