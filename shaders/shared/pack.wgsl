// Four answers as bits 0 to 3.
fn packed(open: vec4<bool>) -> u32 {
    let bits = select(vec4<u32>(0u), vec4<u32>(1u, 2u, 4u, 8u), open);
    return bits.x | bits.y | bits.z | bits.w;
}
