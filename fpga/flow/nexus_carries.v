// For Yosys' techmap, after synthesis for Nexus: leaves the carry-in of each carry chain's first cell open, which Yosys
// 0.70 ties to a constant. That cell's carry-out comes of its second table alone, and nextpnr-nexus refuses a carry-in
// that comes from no carry cell.
module CCU2(input CIN, A0, B0, C0, D0, A1, B1, C1, D1, output S0, S1, COUT);
  parameter INJECT = "YES", INIT0 = "0x0000", INIT1 = "0x0000";

  wire _TECHMAP_FAIL_ = INIT0 != "0xFFFF" || INIT1 != "0x00AA";
  CCU2 #(.INJECT(INJECT), .INIT0(INIT0), .INIT1(INIT1)) _TECHMAP_REPLACE_ (
    .A0(A0), .B0(B0), .C0(C0), .D0(D0), .A1(A1), .B1(B1), .C1(C1), .D1(D1), .S0(S0), .S1(S1), .COUT(COUT));
endmodule
