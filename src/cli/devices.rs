//! `altiplano devices`

use super::Global;
use crate::error::Result;
use crate::gpu::adapters;

pub(super) fn run(global: &Global) -> Result<()> {
    let choice = pollster::block_on(adapters(global.device.as_deref()))?;
    global.print(&choice.adapters, || {
        let mut text = String::new();
        for a in &choice.adapters {
            let l = &a.limits;
            text += &format!(
                "{}{} {}\n    {}, {}, driver {}\n    bindings up to {} MiB, {} storage buffers, workgroup memory {} KiB, subgroups of {} to {}\n    features: {}\n",
                if a.chosen { "* " } else { "  " },
                a.index,
                a.name,
                a.backend,
                a.kind,
                a.driver,
                l.slab_bytes >> 20,
                l.storage_buffers,
                l.workgroup_bytes >> 10,
                l.subgroup.0,
                l.subgroup.1,
                a.features.join(", "),
            );
        }
        let chosen = if choice.adapters.is_empty() { "" } else { "* chosen: " };
        text + chosen + &choice.why
    })
}
