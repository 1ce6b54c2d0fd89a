// ECP5 cells of which Yosys 0.70 has no simulation model, or none that serves, as Yosys (share/lattice/
// brams_map_16kd.v, dsp_map_18x18.v) and nextpnr (ecp5/cells.cc) use them in our netlists. A mode without a model is an
// unknown module, which stops the simulator.

// Table of four bits. Yosys' model halves it three times, of which Verilator makes half as much C++ again.
module LUT4(input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  assign Z = INIT[{D, C, B, A}];
endmodule

// Block RAM of 512 rows of 36 bits. A port of less takes part of a row. One of 36 is both ports together: A writes, B
// reads. What a port reads in the cycle in which the other one writes it is unknown.
module DP16KD(
  input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1,
    DIA0,
  input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
  input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
  output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1,
    DOA0,
  input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1,
    DIB0,
  input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
  input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
  output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1,
    DOB0
);
  parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18;
  parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG";
  parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL";
  parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000";
  parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB";
  parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC", GSR = "ENABLED";
  parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0, INITVAL_05 = 0,
    INITVAL_06 = 0, INITVAL_07 = 0, INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0, INITVAL_0C = 0,
    INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0, INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0,
    INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0, INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0,
    INITVAL_1B = 0, INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0, INITVAL_20 = 0, INITVAL_21 = 0,
    INITVAL_22 = 0, INITVAL_23 = 0, INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0, INITVAL_28 = 0,
    INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0,
    INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0,
    INITVAL_37 = 0, INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0, INITVAL_3C = 0, INITVAL_3D = 0,
    INITVAL_3E = 0, INITVAL_3F = 0;
  localparam [64*320-1:0] CONTENTS = {
    INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39, INITVAL_38,
    INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30,
    INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
    INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20,
    INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18,
    INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
    INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
    INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};

  generate
    if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG" || CSDECODE_A != "0b000" || CSDECODE_B != "0b000"
        || CLKAMUX != "CLKA" || CLKBMUX != "CLKB" || WRITEMODE_A == "WRITETHROUGH" || WRITEMODE_B == "WRITETHROUGH")
      DP16KD_MODE_WITHOUT_MODEL unknown();
  endgenerate

  // Bits of a port within the 36 of its row: so many, from this one on. The ninth bit of each half is out of reach of
  // ports of less than 9 bits.
  function [35:0] bits(input integer width, input [4:0] low);
    bits = ~(~36'b0 << width) << (width == 36 ? 0 : first(width, low));
  endfunction
  function integer first(input integer width, input [4:0] low);
    first = 18 * low[4] + (width >= 18 ? 0 : 9 * low[3] + (low[2:0] & (8 - width)));
  endfunction

  wire [13:0] address_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
  wire [13:0] address_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
  wire [35:0] enables_a = DATA_WIDTH_A < 18 ? ~36'b0 : {
    {9{DATA_WIDTH_A == 36 ? ADA3 : ADA1}}, {9{DATA_WIDTH_A == 36 ? ADA2 : ADA0}}, {9{ADA1}}, {9{ADA0}}};
  wire [35:0] enables_b = DATA_WIDTH_B < 18 ? ~36'b0 : {{9{ADB1}}, {9{ADB0}}, {9{ADB1}}, {9{ADB0}}};
  wire [35:0] bits_a = bits(DATA_WIDTH_A, address_a[4:0]), bits_b = bits(DATA_WIDTH_B, address_b[4:0]);
  wire [35:0] written_a = {36{CEA & WEA}} & enables_a & bits_a, written_b = {36{CEB & WEB}} & enables_b & bits_b;
  wire [35:0] data_b = {
    DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0};
  wire [35:0] data_a = {DATA_WIDTH_A == 36 ? data_b[17:0] : 18'b0,
    DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
  wire same = address_a[13:5] == address_b[13:5];
  wire [5:0] first_a = DATA_WIDTH_A == 36 ? 0 : first(DATA_WIDTH_A, address_a[4:0]);
  wire [5:0] first_b = DATA_WIDTH_B == 36 ? 0 : first(DATA_WIDTH_B, address_b[4:0]);

  reg [35:0] rows [0:511];
  reg [35:0] read_a = 0, read_b = 0;
  integer row;
  initial for (row = 0; row < 512; row = row + 1) rows[row] = {CONTENTS[40 * row + 20 +: 18], CONTENTS[40 * row +: 18]};

  // One clock for both ports.
  always @(posedge CLKA) begin
    if (CEA & (~WEA | WRITEMODE_A == "READBEFOREWRITE"))
      read_a <= (rows[address_a[13:5]] ^ ({36{same}} & written_b & 36'bx)) >> first_a;
    if (CEB & (~WEB | WRITEMODE_B == "READBEFOREWRITE"))
      read_b <= (rows[address_b[13:5]] ^ ({36{same}} & written_a & 36'bx)) >> first_b;
    if (CEA & WEA)
      rows[address_a[13:5]] <= (rows[address_a[13:5]] & ~written_a) | ((data_a << first_a) & written_a);
    if (CEB & WEB)
      rows[address_b[13:5]] <= (rows[address_b[13:5]] & ~written_b) | ((data_b << first_b) & written_b);
  end

  wire [17:0] out_a = DATA_WIDTH_B == 36 ? read_b[17:0] : read_a & ~(~36'b0 << DATA_WIDTH_A);
  wire [17:0] out_b = DATA_WIDTH_B == 36 ? read_b[35:18] : read_b & ~(~36'b0 << DATA_WIDTH_B);
  assign {
    DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0
  } = out_a;
  assign {
    DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
  } = out_b;
endmodule

// Multiplier of 18 x 18 bits without registers.
module MULT18X18D(
  input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
  input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
  input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
  output P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
  parameter REG_INPUTA_CLK = "NONE", REG_INPUTB_CLK = "NONE", REG_PIPELINE_CLK = "NONE", REG_OUTPUT_CLK = "NONE";

  generate
    if (REG_INPUTA_CLK != "NONE" || REG_INPUTB_CLK != "NONE" || REG_PIPELINE_CLK != "NONE" || REG_OUTPUT_CLK != "NONE")
      MULT18X18D_MODE_WITHOUT_MODEL unknown();
  endgenerate

  wire [17:0] a = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
  wire [17:0] b = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
  wire [35:0] wide_a = {{18{SIGNEDA & a[17]}}, a}, wide_b = {{18{SIGNEDB & b[17]}}, b};
  assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
    P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = wide_a * wide_b;
endmodule

// What nextpnr makes of a table, of half a carry cell, and of a bit of 16 words of distributed memory; with the
// multiplexer beside it, which takes tables together.
module TRELLIS_COMB(
  input A, B, C, D, M, FCI, F1, FXA, FXB, DI0, DI1, WD, WAD0, WAD1, WAD2, WAD3, WRE, WCK,
  output F, FCO, OFX
);
  parameter MODE = "LOGIC", CCU2_INJECT1 = "NO", WREMUX = "WRE", WCKMUX = "WCK", IS_Z1 = 0;
  parameter [15:0] INITVAL = 0;

  wire table4 = INITVAL[{D, C, B, A}];
  generate
    if (MODE == "LOGIC")
      assign F = table4;
    else if (MODE == "CCU2") begin
      wire injected = CCU2_INJECT1 == "YES";
      assign F = table4 ^ (FCI & ~injected);
      assign FCO = table4 ? FCI : INITVAL[{B, A}] & ~injected;
    end else if (MODE == "DPRAM" && WREMUX == "WRE" && WCKMUX == "WCK") begin
      reg [15:0] word;
      integer place;
      // The table's inputs are not in the order of the address.
      initial for (place = 0; place < 16; place = place + 1)
        word[place] = INITVAL[{place[0], place[2], place[1], place[3]}];
      always @(posedge WCK) if (WRE) word[{WAD3, WAD2, WAD1, WAD0}] <= WD;
      assign F = word[{A, C, B, D}];
    end else if (MODE != "RAMW_BLOCK")
      TRELLIS_COMB_MODE_WITHOUT_MODEL unknown();
  endgenerate
  assign OFX = M ? (IS_Z1 ? FXB : F1) : (IS_Z1 ? FXA : F);
endmodule

// The pins over which distributed memory is written.
module TRELLIS_RAMW(
  input A0, B0, C0, D0, A1, B1, C1, D1,
  output WDO0, WDO1, WDO2, WDO3, WADO0, WADO1, WADO2, WADO3
);
  assign {WADO3, WADO2, WADO1, WADO0} = {A0, C0, B0, D0};
  assign {WDO3, WDO2, WDO1, WDO0} = {B1, D1, A1, C1};
endmodule
