// SPDX-License-Identifier: GPL-2.0-only
//! Kernel logs without a dump. The lines are made up; their forms are those that the drivers of
//! Linux 4.x to 7.3 print, behind what dmesg, journals, consoles and bug trackers put before a
//! line.

use msm_devcoredump::klog::{
    KernelLog,
    Stamp, //
};
use msm_devcoredump::verdict::{
    judge_log,
    Verdict::{
        self,
        *, //
    },
    Whose::{
        self,
        *, //
    }, //
};

/// What a line, or the lines that belong together, must be read as.
struct Case {
    /// Whose form it is.
    form: &'static str,
    text: &'static str,
    verdict: Verdict,
    whose: Whose,
    /// In the sentence that says what happened.
    happened: &'static str,
    /// When the first thing happened, as it is printed; nothing: no time is known.
    at: &'static str,
}

const CASES: &[Case] = &[
    // Page faults of the GPU.
    Case {
        form: "5.13 and later: SMMUs that tell more, dmesg",
        text:
            "[   12.500000] *** gpu fault: ttbr0=0000000041000000 iova=0000000100005000 dir=READ \
               type=TRANSLATION source=CP (0,0,0,1)",
        verdict: Undetermined,
        whose: Unclear,
        happened: "The read of 0x100005000 by CP found no mapping",
        at: "12.500000 s",
    },
    Case {
        form: "wrapped by a mail reader, quoted",
        text: "> [   12.5] *** gpu fault: ttbr0=0000000041000000 iova=0000000000000040 dir=R\n\
               > EAD type=TRANSLATION source=CCU (0,0,0,1)",
        verdict: NullPointer,
        whose: Application,
        happened: "by CCU is a NULL pointer, plus 0x40",
        at: "12.500000 s",
    },
    Case {
        form: "copied from a screen: wrapped between words, a blank is gone",
        text: "[  416.717385] *** gpu fault:ttbr0=00000001e7d67000\n\
               iova=00000001033f0000 dir=R\nEAD type=TRANSLATION source=CCU (0,0,0,1)",
        verdict: Undetermined,
        whose: Unclear,
        happened: "The read of 0x1033f0000 by CCU",
        at: "416.717385 s",
    },
    Case {
        form: "the kernel's own tables, console with level",
        text: "<4>[12.5] *** gpu fault: ttbr0=0000000000000000 iova=000100000000c000 dir=READ \
               type=TRANSLATION source=CP (0,0,0,0)",
        verdict: KernelsOwn,
        whose: Kernel,
        happened: "no context's tables were loaded",
        at: "12.500000 s",
    },
    Case {
        form: "syslog",
        text: "Nov 14 22:13:20 phone kernel: *** gpu fault: ttbr0=0000000041000000 \
               iova=0000000100005000 dir=WRITE type=PERMISSION source=UCHE (0,0,0,1)",
        verdict: ReadOnly,
        whose: Application,
        happened: "The write to 0x100005000 by UCHE found a mapping that doesn't permit it",
        at: "Nov 14 22:13:20",
    },
    Case {
        form: "nothing before it",
        text: "*** gpu fault: ttbr0=0000000041000000 iova=0000000100005000 dir=READ type=EXTERNAL \
               source=TP (0,0,0,1)",
        verdict: External,
        whose: Kernel,
        happened: "refused by the memory system",
        at: "",
    },
    Case {
        form: "5.x, a5xx and a6xx: flags in decimal after a comma",
        text: "[    3.000000] *** gpu fault: iova=00001040, flags=1 (1,2,3,4)",
        verdict: NullPointer,
        whose: Application,
        happened: "The write to 0x1040",
        at: "3.000000 s",
    },
    Case {
        form: "6.x, an SMMU that tells nothing more: no comma; qcom-iommu says it again",
        text: "[   16.363388] *** gpu fault: iova=0000000001047dc0 flags=0 (0,0,0,0)\n\
               [   16.363414] qcom-iommu-ctx 1c48000.iommu-ctx: Unhandled context fault: \
               fsr=0x40000202, iova=0x0000000001047dc0, fsynr=0x3, cb=0",
        verdict: Undetermined,
        whose: Unclear,
        happened: "The read of 0x1047dc0 found no mapping",
        at: "16.363388 s",
    },
    Case {
        form: "a patch that prints both context banks",
        text: "[   40.1] *** gpu fault: cb=0 ttbr0=0000000181234000 cb0_ttbr0=0000000181234000 \
               cb1_ttbr0=0000000000000000 iova=0000000000000000 dir=READ type=TRANSLATION \
               source=PREFETCH (1,2,3,4)",
        verdict: NullPointer,
        whose: Application,
        happened: "by PREFETCH is a NULL pointer",
        at: "40.100000 s",
    },
    Case {
        form: "the GPU was off: its scratch registers read 0xdeafbead",
        text:
            "[   81.922831] *** gpu fault: ttbr0=000000089a912000 iova=0000000000000000 dir=READ \
               type=TRANSLATION source=CP (3736059565,3736059565,3736059565,3736059565)",
        verdict: Unreadable,
        whose: Unclear,
        happened: "means nothing",
        at: "81.922831 s",
    },
    Case {
        form: "the address itself is what nobody answers",
        text: "[   81.9] *** gpu fault: ttbr0=000000089a912000 iova=00000000deafbead dir=READ \
               type=TRANSLATION source=unknown (0,0,0,0)",
        verdict: Unreadable,
        whose: Unclear,
        happened: "at no address of anybody's",
        at: "81.900000 s",
    },
    Case {
        form: "up to a4xx, or the display: padded with blanks",
        text: "[ 1042.334021] *** fault: iova=         1047de0, flags=0",
        verdict: Undetermined,
        whose: Unclear,
        happened: "a GPU up to a4xx, or of the display controller",
        at: "1042.334021 s",
    },
    // Context faults of an SMMU that need not be the GPU's.
    Case {
        form: "arm-smmu, 5.x to 7.3",
        text: "[    3.000000] arm-smmu 5040000.iommu: Unhandled context fault: fsr=0x402, \
               iova=0x100001000, fsynr=0x3, cbfrsynra=0x0, cb=0",
        verdict: Undetermined,
        whose: Unclear,
        happened: "5040000.iommu reports context faults, and the GPU's driver none",
        at: "3.000000 s",
    },
    Case {
        form: "arm-smmu of a vendor's 4.9: address first; printk caller",
        text: "[ 3440.122844][    C0] arm-smmu 15000000.apps-smmu: Unhandled context fault: \
               iova=0xa09d70c8, fsr=0x40000402, fsynr=0x300013, cb=5",
        verdict: Undetermined,
        whose: Unclear,
        happened: "15000000.apps-smmu reports context faults",
        at: "3440.122844 s",
    },
    // Hangs.
    Case {
        form: "hangcheck, dmesg -T",
        text: "[Fri Nov 14 22:13:20 2025] msm_dpu ae01000.display-controller: \
               [drm:hangcheck_handler [msm]] *ERROR* 67.5.12.1: hangcheck detected gpu lockup rb \
                   0!",
        verdict: Hang,
        whose: Unclear,
        happened: "The GPU made no progress",
        at: "Fri Nov 14 22:13:20 2025",
    },
    Case {
        form: "hangcheck of 4.x, named by the GPU, console in a journal",
        text: "[Feb 09 10:20:47] kern kernel: msm 5100000.mdp: [drm:recover_worker] *ERROR* A320: \
               hangcheck recover!",
        verdict: Hang,
        whose: Unclear,
        happened: "The GPU made no progress",
        at: "Feb 09 10:20:47",
    },
    Case {
        form: "the GPU's own hang detection, 5.x to 7.3",
        text: "[   30.0] adreno 1.gpu: [drm:a6xx_irq [msm]] *ERROR* gpu fault ring 0 fence 1a \
            status \
               E70091C3 rb 0cf0/0d70 ib1 0000000019F18000/0e0b ib2 0000000000000000/0000",
        verdict: Hang,
        whose: Unclear,
        happened: "in ring 0, IB1 at 0x19f18000 with 3595 dwords left",
        at: "30.000000 s",
    },
    Case {
        form: "4.14: without the function",
        text: "[ 1520.504254] msm 900000.mdss: gpu fault ring 1 fence 2e1f7 status C00401C3 rb \
               01e1/01e1 ib1 000000000234F000/012d ib2 000000000D5A1000/0000",
        verdict: Hang,
        whose: Unclear,
        happened: "in ring 1, IB1 at 0x234f000 with 301 dwords left, IB2 at 0xd5a1000",
        at: "1520.504254 s",
    },
    Case {
        form: "a8xx: a line for the GPU and one for each pipe, which count what was read",
        text:
            "2026-11-14T22:13:20.123456+01:00 h kernel: adreno 3d00000.gpu: [drm:a8xx_irq [msm]] \
               *ERROR* gpu fault ring 0 fence 2c status 00800001 gfx_status 40000001\n\
               2026-11-14T22:13:20.123460+01:00 h kernel: adreno 3d00000.gpu: [drm:a8xx_irq [msm]] \
               *ERROR* BR: status 00000001 rb 0040/0050 ib1 0000000120004000/0010 ib2 \
               0000000000000000/0000 ib3 0000000000000000/0000",
        verdict: Hang,
        whose: Unclear,
        happened: "in ring 0, IB1 at 0x120004000 with 16 dwords read",
        at: "2026-11-14T22:13:20.123456+01:00",
    },
    Case {
        form: "it had not begun",
        text: "[   81.92] adreno 1.gpu: [drm:a6xx_irq] *ERROR* gpu fault ring 2 fence 1324 status \
               00800005 rb 0000/0167 ib1 0000000000000000/0000 ib2 0000000000000000/0000",
        verdict: NotStarted,
        whose: Kernel,
        happened: "had not begun to read ring 2",
        at: "81.920000 s",
    },
    Case {
        form: "no ring was active, and the status can't be read",
        text: "[   81.92] adreno 1.gpu: [drm:a6xx_irq] *ERROR* gpu fault ring -1 fence 0 status \
               DEAFBEAD rb 0000/0000 ib1 0000000000000000/0000 ib2 0000000000000000/0000",
        verdict: Unreadable,
        whose: Unclear,
        happened: "its status reads 0xdeafbead",
        at: "81.920000 s",
    },
    Case {
        form: "the kernel's first commands aren't finished",
        text: "[  200.914680] [drm:adreno_idle [msm]] *ERROR* 5.0.9.0: timeout waiting to drain \
               ringbuffer 0 rptr/wptr = 10/32C",
        verdict: NotStarted,
        whose: Kernel,
        happened: "it is at 0x10 of 0x32c dwords",
        at: "200.914680 s",
    },
    Case {
        form: "nothing but that it couldn't be initialised; dmesg -x",
        text: "kern  :err   : [    9.250000] msm_dpu 1.mdp: [drm:adreno_load_gpu [msm]] *ERROR* \
            gpu \
               hw init failed: -22",
        verdict: NotStarted,
        whose: Kernel,
        happened: "errno 22",
        at: "9.250000 s",
    },
    // What the CP and UCHE report.
    Case {
        form: "a5xx to a7xx; dmesg -d, which knows no time",
        text: "[  +0.000012] adreno 1.gpu: CP | opcode error | possible opcode=0x00000070",
        verdict: BadPacket,
        whose: Application,
        happened: "possibly with opcode 0x70",
        at: "",
    },
    Case {
        form: "a6xx",
        text: "[    3.0] adreno 1.gpu: CP illegal instruction error",
        verdict: BadPacket,
        whose: Application,
        happened: "what is no packet:",
        at: "3.000000 s",
    },
    Case {
        form: "a8xx: the general line comes first",
        text: "[    3.0] adreno 1.gpu: CP Fault Global INT status: 0x10000\n\
               [    3.0] adreno 1.gpu: CP SW FAULT pipe: 1 status: 0x100\n\
               [    3.0] adreno 1.gpu: CP Opcode error, opcode=0x12",
        verdict: BadPacket,
        whose: Application,
        happened: "possibly with opcode 0x12",
        at: "3.000000 s",
    },
    Case {
        form: "a5xx to a7xx; a farm's console: line number, time of the host, level",
        text: " 1567 01:00:24.574515  <3>[   18.248071] adreno 1.gpu: CP | protected mode error | \
               WRITE | addr=0x0000B800 | status=0x0000B800",
        verdict: BadPacket,
        whose: Application,
        happened: "wrote to register 0xb800",
        at: "18.248071 s",
    },
    Case {
        form: "a4xx: a capital, hex without 0x",
        text: "[    3.0] CP | Protected mode error| READ | addr=2e",
        verdict: BadPacket,
        whose: Application,
        happened: "read register 0x2e",
        at: "3.000000 s",
    },
    Case {
        form: "a5xx to a7xx",
        text: "[    3.0] adreno 1.gpu: CP | HW fault | status=0x00000020",
        verdict: Hang,
        whose: Unclear,
        happened: "an error of its firmware or of the bus",
        at: "3.000000 s",
    },
    Case {
        form: "a6xx to a8xx",
        text: "[    3.0] adreno 1.gpu: UCHE | Out of bounds access",
        verdict: NeverMapped,
        whose: Application,
        happened: "outside of all that the GPU may reach",
        at: "3.000000 s",
    },
    // Power.
    Case {
        form: "the GMU doesn't answer, kmsg",
        text: "3,1042,14780263,-;platform 506a000.gmu: [drm:a6xx_gmu_set_oob] *ERROR* Timeout \
            waiting \
               for GMU OOB set BOOT_SLUMBER: 0x0\n\
               3,1043,14780925,-;msm_dpu ae01000.mdp: [drm:adreno_load_gpu] *ERROR* Couldn't power \
               up the GPU: -110",
        verdict: PoweredOff,
        whose: Kernel,
        happened: "failed before anything else did",
        at: "14.780263 s",
    },
    Case {
        form: "the GMU's watchdog, then the page fault of a GPU that is off",
        text: "[   81.1] platform 3d6a000.gmu: GMU watchdog expired\n\
               [   81.9] *** gpu fault: ttbr0=000000089a912000 iova=0000000000000000 dir=READ \
               type=TRANSLATION source=CP (3736059565,3736059565,3736059565,3736059565)",
        verdict: PoweredOff,
        whose: Kernel,
        happened: "failed before anything else did",
        at: "81.100000 s",
    },
    Case {
        form: "HFI, whose line names the GMU only as a device",
        text: "[   14.2] platform 506a000.gmu: [drm:a6xx_hfi_send_msg.constprop.0 [msm]] *ERROR* \
               Message HFI_H2F_MSG_GX_BW_PERF_VOTE id 25 timed out waiting for response",
        verdict: PoweredOff,
        whose: Kernel,
        happened: "failed before anything else did",
        at: "14.200000 s",
    },
    Case {
        form: "its power can't be switched off",
        text: "[   99.0] adreno 3d00000.gpu: [drm:a6xx_recover [msm]] *ERROR* cx gdsc didn't \
            collapse",
        verdict: PoweredOff,
        whose: Kernel,
        happened: "failed before anything else did",
        at: "99.000000 s",
    },
    // Firmware.
    Case {
        form: "missing, said by the firmware loader and by the driver",
        text: "[    2.999420] msm_dpu ae01000.mdp: Direct firmware load for qcom/a630_sqe.fw \
            failed \
               with error -2\n\
               [    2.999438] msm_dpu ae01000.mdp: [drm:adreno_request_fw] *ERROR* failed to load \
               a630_sqe.fw",
        verdict: NoFirmware,
        whose: Unclear,
        happened: "qcom/a630_sqe.fw could not be loaded",
        at: "",
    },
    Case {
        form: "the zap shader",
        text: "[    0.456392] adreno 2c00000.gpu: [drm:adreno_zap_shader_load] *ERROR* Unable to \
            load \
               qcom/sm8150/vendor/device/a640_zap.mbn\n\
               [    0.456482] msm_dpu ae01000.mdp: [drm:adreno_load_gpu] *ERROR* gpu hw init \
                   failed: -2",
        verdict: NoFirmware,
        whose: Unclear,
        happened: "a640_zap.mbn could not be loaded",
        at: "",
    },
    Case {
        form: "missing at first, found later; then it faults",
        text: "[    2.9] msm_dpu 1.mdp: [drm:adreno_request_fw] *ERROR* failed to load \
            a630_sqe.fw\n\
               [   14.7] msm_dpu 1.mdp: [drm:adreno_request_fw] loaded qcom/a630_sqe.fw from new \
               location\n\
               [   50.0] *** gpu fault: ttbr0=0000000041000000 iova=0000000100005000 dir=READ \
               type=TRANSLATION source=TP (0,0,0,1)",
        verdict: Undetermined,
        whose: Unclear,
        happened: "The read of 0x100005000 by TP",
        at: "50.000000 s",
    },
    // Nothing of the GPU's.
    Case {
        form: "other drivers",
        text: "[    3.0] devfreq 5000000.gpu: dvfs failed with (-22) error\n\
               [    3.1] platform 506a000.gmu: Adding to iommu group 3\n\
               [    3.2] qcom-venus aa00000.video-codec: Direct firmware load for \
               qcom/venus-5.4/venus.mbn failed with error -2",
        verdict: NotGpu,
        whose: Unclear,
        happened: "says nothing of an Adreno GPU's trouble",
        at: "",
    },
];

/// The time of what was logged first.
fn first(log: &KernelLog) -> Option<&Stamp> {
    let line = log.order.first().map_or(0, |&(_, line)| line);
    let spans = [
        &log.faults.span,
        &log.plain.span,
        &log.lockups,
        &log.recoveries,
        &log.hangs,
        &log.idle,
        &log.init,
        &log.out_of_bounds,
        &log.cp,
        &log.gmu,
    ];
    let mut spans = spans.into_iter().chain(log.smmus.values().map(|f| &f.span));
    spans
        .find(|span| span.count > 0 && (span.line == line || line == 0))
        .and_then(|span| span.first.as_ref())
}

#[test]
fn each_line_has_its_reading() {
    assert!(CASES.len() >= 30);
    for case in CASES {
        // As it is, in the midst of other lines, and with the ends of lines of another system.
        let other = "[    1.000000] usb 1-1: new high-speed USB device number 2\n";
        for text in [
            case.text.to_owned(),
            format!("{other}{}\n{other}", case.text),
            case.text.replace('\n', "\r\n") + "\r\n",
        ] {
            let log = KernelLog::read(text.as_bytes()).unwrap();
            let finding = judge_log(&log);
            let form = case.form;
            assert_eq!(finding.verdict, case.verdict, "{form}: {finding:?}");
            assert_eq!(finding.whose, case.whose, "{form}: {finding:?}");
            let happened = &finding.happened;
            assert!(happened.contains(case.happened), "{form}: {happened}");
            assert!(!finding.next.is_empty(), "{form}");
            let at = first(&log).map_or(String::new(), |stamp| stamp.to_string());
            if !log.order.is_empty() {
                assert_eq!(at, case.at, "{form}: {log:?}");
            }
        }
    }
}

#[test]
fn floods_are_summed_up() {
    let mut text = String::new();
    for n in 0..1000u64 {
        text += &format!(
            "[  {}.000001] *** gpu fault: ttbr0=0000000041000000 iova={:016x} \
            dir=READ type=TRANSLATION source=CCU (0,0,0,1)\n",
            n,
            0x1_0000_0000 + n * 4096
        );
    }
    text += "[ 1000.0] adreno_fault_handler: 27 callbacks suppressed\n";
    let log = KernelLog::read(text.as_bytes()).unwrap();
    assert_eq!(log.faults.span.count, 1000);
    assert_eq!(log.suppressed, 27);
    let ranges: Vec<_> = log.faults.ranges().collect();
    assert_eq!(ranges, [(0x1_0000_0000..0x1_003e_7000, 1000)]);
}
