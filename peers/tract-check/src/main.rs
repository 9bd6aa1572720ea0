//! An ONNX file run by tract: `tract-check FILE.onnx IMAGES.f32 N C H W`. Images and logits are bare little-endian `f32` values; logits go to
//! stdout.

use std::io::Write;

use tract_onnx::prelude::*;

fn main() -> TractResult<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, images, shape @ ..] = &arguments[..] else {
        return Err(TractError::msg("expected FILE.onnx IMAGES.f32 N C H W"));
    };
    let shape = shape.iter().map(|side| side.parse()).collect::<Result<Vec<usize>, _>>()?;
    let values: Vec<f32> =
        std::fs::read(images)?.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect();
    let model = tract_onnx::onnx()
        .model_for_path(file)?
        .with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), &shape))?
        .into_optimized()?
        .into_runnable()?;
    let logits = model.run(tvec!(Tensor::from_shape(&shape, &values)?.into()))?;
    let logits = logits[0].to_plain_array_view::<f32>()?;
    let bytes: Vec<u8> = logits.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::io::stdout().write_all(&bytes)?;
    Ok(())
}
