from fpga.flow.report import Usage, critical_path, last_error, link_is_met, overfull, utilization

LOG = """Info: Device utilisation:
Info: \t            TRELLIS_IO:     7/  197     3%
Info: \t                DP16KD:    64/   56   114%
ERROR: Unable to place cell 'a', no BELs remaining to implement cell type 'DP16KD'
0 warnings, 1 error
"""


def test_overfull_lists_only_what_does_not_fit():
    assert overfull(LOG) == {"DP16KD": Usage(64, 56)}
    assert overfull(LOG.replace("64/   56   114%", "56/   56   100%")) == {}
    assert overfull("Info: nothing here") == {}


def test_last_error():
    assert last_error(LOG).startswith("ERROR: Unable to place")
    assert last_error("a\nb\n\n") == "b"
    assert last_error("") == "no output"


def test_slowest_domain_and_path_are_taken():
    def step(delay, kind):
        ends = {end: {"cell": end, "port": "Q"} for end in ("from", "to")}
        return {"delay": delay, "type": kind} | ends

    report = {
        "utilization": {"TRELLIS_FF": {"used": 3, "available": 9}},
        "fmax": {"a": {"achieved": 200.0}, "b": {"achieved": 100.004}},
        "critical_paths": [
            {"from": "posedge a", "to": "posedge a", "path": [step(5.0, "routing")]},
            {"from": "<async>", "to": "posedge b", "path": [step(1.0, "routing")]},
            {
                "from": "posedge b",
                "to": "posedge b",
                "path": [step(4.0, "clk-to-q"), step(0.07, "logic"), step(0.1, "logic"), step(6, "x")],
            },
        ],
    }
    text, fmax = critical_path(report)
    assert fmax == 100.0
    assert [line.split()[0] for line in text.splitlines()] == ["4.00", "4.17", "10.17"]
    assert utilization(report) == {"TRELLIS_FF": Usage(3, 9)}
    assert link_is_met(report)
    # Clocks of USB have a frequency of their own, and are no limit of the core's.
    report["fmax"] |= {
        "$glbnet$ulpi_clk$TRELLIS_IO_IN": {"achieved": 61.0, "constraint": 60.0},
        "$glbnet$shell.assembler.usb_clk": {"achieved": 12.0, "constraint": 12.0},
        "usb_io_clk": {"achieved": 48.1, "constraint": 48.0},
    }
    assert critical_path(report) == (text, fmax)
    assert link_is_met(report)
    report["fmax"]["usb_io_clk"]["achieved"] = 47.9
    assert not link_is_met(report)
