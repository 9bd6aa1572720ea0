// Operands of listed terms may lie in up to POOL slabs: slab0, slab1, ... from binding FIRST on.
#for i in 0..POOL
@group(0) @binding(${FIRST + i}) var<storage, read_write> slab${i}: array<vec4<f32>>;
#end

fn load(slab: u32, index: u32) -> vec4<f32> {
#if POOL == 1
    return slab0[index];
#else
    switch slab {
#for i in 1..POOL
        case ${i}u: { return slab${i}[index]; }
#end
        default: { return slab0[index]; }
    }
#end
}
