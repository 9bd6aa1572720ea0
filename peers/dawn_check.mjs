// Has Chrome's WGSL compiler (Tint, in Dawn's node package `webgpu`) make a compute pipeline of every shader variant in a
// folder that `altiplano bench --shaders FOLDER` wrote. README.md says how to run it.
//
// Each variant gets the layout that the engine gives it. The device has the limits that WebGPU promises everywhere; only
// storage buffers may be more, as many as the variants need.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);

const KINDS = { 'read': 'read-only-storage', 'read-write': 'storage', 'uniform': 'uniform' };
const STORAGE_BUFFERS = 8;

function fail(why) {
    console.error(why);
    process.exit(2);
}

function readIndex(folder) {
    try {
        return JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8'));
    } catch (error) {
        fail(`${folder} is no folder of altiplano bench --shaders: ${error.message}`);
    }
}

const storageBuffers = (variant) => variant.interface.bindings.filter((b) => b.kind !== 'uniform').length;

async function open(storage) {
    const gpu = create([]);
    const adapter = await gpu.requestAdapter();
    if (!adapter) fail('Dawn finds no adapter');
    const device = await adapter.requestDevice({
        requiredFeatures: ['subgroups'].filter((feature) => adapter.features.has(feature)),
        requiredLimits: { maxStorageBuffersPerShaderStage: Math.max(STORAGE_BUFFERS, storage) },
    });
    const { vendor, architecture, device: name, description } = adapter.info;
    console.log(`adapter: ${[vendor, architecture, name, description].filter(Boolean).join(', ')}`);
    return { gpu, device };
}

function pipelineLayout(device, { bindings, immediates }) {
    const entries = bindings.map(({ group, binding, kind, bytes }) => {
        if (group !== 0 || !(kind in KINDS)) throw new Error(`binding ${group}, ${binding} of kind ${kind} is not the engine's`);
        return { binding, visibility: GPUShaderStage.COMPUTE, buffer: { type: KINDS[kind], minBindingSize: bytes } };
    });
    return device.createPipelineLayout({ bindGroupLayouts: [device.createBindGroupLayout({ entries })], immediateSize: immediates });
}

// What the compiler has against a variant: errors, or only warnings.
async function compile(device, folder, variant) {
    const { file, interface: asked } = variant;
    const errors = [];
    let warnings = [];
    device.pushErrorScope('validation');
    try {
        const module = device.createShaderModule({ label: file, code: readFileSync(join(folder, `${file}.wgsl`), 'utf8') });
        const { messages } = await module.getCompilationInfo();
        const text = ({ type, lineNum, linePos, message }) => `${type} at ${lineNum}:${linePos}: ${message}`;
        errors.push(...messages.filter((m) => m.type === 'error').map(text));
        warnings = messages.filter((m) => m.type === 'warning').map(text);
        if (errors.length === 0) {
            const layout = pipelineLayout(device, asked);
            await device.createComputePipelineAsync({ label: file, layout, compute: { module, entryPoint: asked.entry } });
        }
    } catch (error) {
        errors.push(error.message);
    }
    const left = await device.popErrorScope();
    if (left && errors.length === 0) errors.push(left.message);
    return { errors, warnings };
}

const folder = process.argv[2];
if (process.argv.length !== 3) fail('usage: node dawn_check.mjs FOLDER');
const index = readIndex(folder);
const most = Math.max(0, ...index.variants.map(storageBuffers));
let { gpu, device } = await open(most);
let compiled = 0;
let warned = 0;
for (const [number, variant] of index.variants.entries()) {
    // All together take minutes.
    if (process.stderr.isTTY) process.stderr.write(`${number} of ${index.variants.length} \r`);
    const { errors, warnings } = await compile(device, folder, variant);
    for (const line of [...errors, ...warnings]) {
        console.log(`${variant.file} (${JSON.stringify(variant.constants)}): ${line}`);
    }
    compiled += errors.length === 0 ? 1 : 0;
    warned += warnings.length > 0 ? 1 : 0;
}
const beyond = index.variants.filter((variant) => storageBuffers(variant) > STORAGE_BUFFERS).length;
console.log(`storage buffers: at most ${most}; ${beyond} variants take more than WebGPU's ${STORAGE_BUFFERS}`);
console.log(`${warned} variants have warnings`);
console.log(`${compiled} of ${index.variants.length} variants of preset ${index.preset.name} compile`);
device.destroy();
device = gpu = null;
process.exitCode = compiled === index.variants.length && compiled > 0 ? 0 : 1;
