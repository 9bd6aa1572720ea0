//! What can be counted in a compute shader's machine code for AMD hardware, as RADV prints it.

/// Of a hundred instructions issued in the loop with most multiply-adds (the innermost of those with as many), waits left out,
/// how many are multiply-adds; 0 if there is no such loop. An instruction that does two of them counts twice.
pub fn multiply_adds_in_hundred(assembly: &str) -> u32 {
    let lines: Vec<&str> = assembly.lines().map(str::trim).collect();
    // Multiply-adds, instructions, lines: of the best loop so far.
    let mut best = (0, 1, usize::MAX);
    for (end, line) in lines.iter().enumerate() {
        let Some(target) = branch_target(line) else { continue };
        let Some(start) = lines[..end].iter().position(|line| line.strip_suffix(':') == Some(target)) else { continue };
        let body = lines[start..end].iter().filter(|line| is_issued(line));
        let (adds, issued) = body.fold((0, 0), |(adds, issued), line| (adds + multiply_adds(line), issued + 1));
        if adds > best.0 || (adds == best.0 && end - start < best.2) {
            best = (adds, issued, end - start);
        }
    }
    (100 * best.0 / best.1.max(1)) as u32
}

/// Instructions that take the larger of two floating-point numbers.
pub fn maxima(assembly: &str) -> usize {
    let names = ["v_max_f32", "v_max_num_f32", "v_max3_f32", "v_pk_max_f16", "v_max_f16", "v_maximum_f32"];
    assembly.lines().filter(|line| names.iter().any(|name| line.contains(name))).count()
}

fn branch_target(line: &str) -> Option<&str> {
    let (operation, target) = line.split_once(char::is_whitespace)?;
    let target = target.split_whitespace().next()?.trim_end_matches(',');
    (operation.starts_with("s_branch") || operation.starts_with("s_cbranch")).then_some(target)
}

/// Whether a line is an instruction that does something.
fn is_issued(line: &str) -> bool {
    let Some(operation) = line.split_whitespace().next() else { return false };
    let waits = ["s_waitcnt", "s_delay", "s_nop"].iter().any(|wait| operation.starts_with(wait));
    !waits && !operation.ends_with(':') && !operation.starts_with(';')
}

fn multiply_adds(line: &str) -> usize {
    if !line.starts_with("v_") {
        return 0;
    }
    // Older hardware multiplies and adds in one instruction that rounds twice.
    ["_fma", "v_mad_", "v_mac_"].iter().map(|name| line.matches(name).count()).sum()
}

#[test]
fn loops_are_found_and_counted() {
    let text = "
        v_max_f32 v0, v1, v2
    BB1:
        v_fmac_f32 v0, v1, v2
        buffer_load_dwordx4 v[0:3], v4, s[0:3], 0 offen
    BB2:
        v_fma_f32 v0, v1, v2, v3
        v_dual_fmac_f32 v0, v1, v2 :: v_dual_fmac_f32 v5, v6, v7
        s_waitcnt vmcnt(0)
        ; a remark
        v_add_f32 v0, v1, v2
        s_cbranch_scc0 BB2
        s_branch BB1
        s_cbranch_scc1 BB9
    BB9:
        s_endpgm";
    // The outer loop has four multiply-adds in six instructions, less the branch that closes it.
    assert_eq!(multiply_adds_in_hundred(text), 100 * 4 / 6);
    assert_eq!(multiply_adds_in_hundred("v_fma_f32 v0, v1, v2, v3\ns_endpgm"), 0);
    assert_eq!((maxima(text), maxima("v_max_i32 v0, v1, v2\nv_max3_f32 v0, v1, v2, v3")), (1, 1));
}
