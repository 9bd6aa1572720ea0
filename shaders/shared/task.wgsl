// The task table: one row of vec4<u32> per task, bound at the dispatch's own range.
// Offsets in it count vec4<f32> from the start of the operand's slab.
@group(0) @binding(0) var<storage, read> rows: array<vec4<u32>>;

const NONE: u32 = 0xffffffffu;

// Where a dispatch begins: long ones are cut into several, each of which runs some workgroups of some tasks.
struct Begin {
    group: u32,
    task: u32,
}
var<immediate> begin: Begin;

// Number of the workgroup among those of its task. Grids wider than 65,535 are folded into two dimensions; this undoes it.
fn linear_group(group: vec3<u32>, grid: vec3<u32>) -> u32 {
    return begin.group + group.x + group.y * grid.x;
}

// Number of the task, whose row is the workgroup's.
fn task_number(group: vec3<u32>) -> u32 {
    return begin.task + group.z;
}
