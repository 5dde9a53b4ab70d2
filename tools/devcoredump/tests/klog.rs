// SPDX-License-Identifier: GPL-2.0-only
//! Kernel logs without a dump.

use msm_devcoredump::klog::KernelLog;
use msm_devcoredump::verdict::{
    judge_log,
    Verdict, //
};

#[test]
fn each_line_has_its_reading() {
    use Verdict::*;
    for (text, verdict) in [
        ("[   12.5] *** gpu fault: ttbr0=0000000041000000 iova=0000000100005000 dir=READ type=TRANSLATION source=CP (0,0,0,1)", Undetermined),
        ("> [   12.5] *** gpu fault: ttbr0=0000000041000000 iova=0000000000000040 dir=R\n> EAD type=TRANSLATION source=CCU (0,0,0,1)", NullPointer),
        ("<4>[12.5] *** gpu fault: ttbr0=0000000000000000 iova=000100000000c000 dir=READ type=TRANSLATION source=CP (0,0,0,0)", KernelsOwn),
        ("Nov 14 22:13:20 phone kernel: *** gpu fault: ttbr0=0000000041000000 iova=0000000100005000 dir=WRITE type=PERMISSION source=UCHE (0,0,0,1)", ReadOnly),
        ("*** gpu fault: ttbr0=0000000041000000 iova=0000000100005000 dir=READ type=EXTERNAL source=TP (0,0,0,1)", External),
        ("[3.0] *** gpu fault: iova=00001040, flags=0 (1,2,3,4)", NullPointer),
        ("[3.0] arm-smmu 5040000.iommu: Unhandled context fault: fsr=0x402, iova=0x100001000, fsynr=0x3, cbfrsynra=0x0, cb=0", Undetermined),
        ("[3.0] msm_dpu 1.mdss: [drm:hangcheck_handler [msm]] *ERROR* 6.3.0.1: hangcheck detected gpu lockup rb 0!", Hang),
        ("[3.0] adreno 1.gpu: [drm:a6xx_irq [msm]] *ERROR* gpu fault ring 0 fence 1a status E70091C3 rb 0cf0/0d70 ib1 0000000019F18000/0e0b ib2 0000000000000000/0000", Hang),
        ("[3.0] adreno 1.gpu: [drm:a6xx_irq [msm]] *ERROR* gpu fault ring 0 fence 1a status 00800005 rb 0000/0fb9 ib1 0000000000000000/0000 ib2 0000000000000000/0000", NotStarted),
        ("[3.0] adreno 1.gpu: CP | opcode error | possible opcode=0x00000070", BadPacket),
        ("[3.0] adreno 1.gpu: CP illegal instruction error", BadPacket),
        ("[3.0] platform 2.gmu: [drm:a6xx_gmu_set_oob [msm]] *ERROR* Timeout waiting for GMU OOB set GPU_SET: 0x0", PoweredOff),
        ("[3.0] msm_dpu 1.mdss: [drm:adreno_request_fw [msm]] *ERROR* failed to load a630_sqe.fw", NoFirmware),
        ("[3.0] devfreq 5000000.gpu: dvfs failed with (-22) error", NotGpu),
    ] {
        let log = KernelLog::read(text.as_bytes()).unwrap();
        assert_eq!(judge_log(&log).verdict, verdict, "{text}\n{log:#?}");
    }
}

#[test]
fn floods_are_summed_up() {
    let mut text = String::new();
    for n in 0..1000u64 {
        text += &format!("[  {}.000001] *** gpu fault: ttbr0=0000000041000000 iova={:016x} dir=READ type=TRANSLATION source=CCU (0,0,0,1)\n", n, 0x1_0000_0000 + n * 4096);
    }
    text += "[ 1000.0] adreno_fault_handler: 27 callbacks suppressed\n";
    let log = KernelLog::read(text.as_bytes()).unwrap();
    assert_eq!(log.faults.span.count, 1000);
    assert_eq!(log.suppressed, 27);
    let ranges: Vec<_> = log.faults.ranges().collect();
    assert_eq!(ranges, [(0x1_0000_0000..0x1_003e_7000, 1000)]);
}
