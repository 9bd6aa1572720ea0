// The hard sigmoid s(z) = min(max(z + 3, 0), 6) / 6 and the hard swish z s(z) (Howard et al. 2019, section 5.2), with their slopes. At the
// kinks the slope is that of the flat side of s, as behind PyTorch's relu6. What is no number stays what it is.
const SIXTH: f32 = 0.16666667;

fn no_number(z: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(z) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

fn hard_sigmoid(z: vec4<f32>) -> vec4<f32> {
    return select(clamp(z + 3.0, vec4<f32>(0.0), vec4<f32>(6.0)) * SIXTH, z, no_number(z));
}

fn hard_sigmoid_slope(z: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(0.0), vec4<f32>(SIXTH), abs(z) < vec4<f32>(3.0));
}

fn hard_swish(z: vec4<f32>) -> vec4<f32> {
    return z * hard_sigmoid(z);
}

fn hard_swish_slope(z: vec4<f32>) -> vec4<f32> {
    return fma(z, hard_sigmoid_slope(z), hard_sigmoid(z));
}
