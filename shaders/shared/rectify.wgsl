// The rectifier by the bits of a number: what is below zero becomes zero, and what is no number stays what it is. The maximum of
// a NaN and zero may be zero, and a compiler that takes arithmetic lightly (Metal's does) may make a maximum of a comparison; so
// a network whose weights are lost would go on with zeros. As a whole number with a sign, a negative number's bits lie below
// NEGATIVE, minus infinity and minus zero included; those of NaNs lie above.
const NEGATIVE: i32 = -8388607;
// No number's bits lie below this.
const NOTHING: i32 = -2147483648;

// The rectified value with `below` NEGATIVE, the value itself with NOTHING.
fn rectify(x: vec4<f32>, below: i32) -> vec4<f32> {
    return select(x, vec4<f32>(0.0), bitcast<vec4<i32>>(x) < vec4<i32>(below));
}

// Where the rectifier lets gradients pass: not at zero nor below.
fn passes(x: vec4<f32>) -> vec4<bool> {
    let bits = bitcast<vec4<i32>>(x);
    return (bits >= vec4<i32>(NEGATIVE)) & (bits != vec4<i32>(0));
}

// Whole numbers in the order of the numbers, the two zeros equal, and NaNs above all.
fn rank(x: vec4<f32>) -> vec4<i32> {
    let bits = bitcast<vec4<i32>>(x);
    let order = select(bits, vec4<i32>(NOTHING) - bits, bits < vec4<i32>(0));
    let nan = (bits & vec4<i32>(0x7fffffff)) > vec4<i32>(0x7f800000);
    return select(order, vec4<i32>(0x7fffffff), nan);
}
