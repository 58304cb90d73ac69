"""Shared by several test modules."""

from __future__ import annotations

ORIN_AGX = (
    "11-14-2024 12:34:56 RAM 3162/30536MB (lfb 6x4MB) SWAP 0/15268MB (cached 0MB) CPU "
    "[1%@729,0%@729,off,off] EMC_FREQ 0%@2133 GR3D_FREQ 99%@[1300,1300] cpu@47.968C "
    "soc0@46.906C gpu@46.343C tj@47.968C cv0@-256C VDD_GPU_SOC 3175mW/3170mW "
    "VDD_CPU_CV 400mW/390mW VIN_SYS_5V0 3025mW/3000mW"
)
