/* A library with NVML's interface and made-up answers, for the ctypes binding. */
#include <string.h>

typedef void *device;
static int running;
static int card, slice;

int nvmlInit_v2(void) { running++; return 0; }
int nvmlShutdown(void) { running--; return 0; }
int made_running(void) { return running; }
const char *nvmlErrorString(int code) {
    return code == 6 ? "Not Found" : "Not Supported";
}
int nvmlDeviceGetHandleByUUID(const char *uuid, device *out) {
    if (!strcmp(uuid, "GPU-a")) { *out = &card; return 0; }
    if (!strcmp(uuid, "MIG-1")) { *out = &slice; return 0; }
    return 6;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device from, device *out) {
    if (from != &slice) return 2;
    *out = &card;
    return 0;
}
int nvmlDeviceGetUUID(device from, char *text, unsigned length) {
    if ((from != &card && from != &slice) || length < 6) return 2;
    strcpy(text, from == &card ? "GPU-a" : "MIG-1");
    return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(device from, unsigned *out) {
    *out = 3;
    return from != &card;
}
int nvmlDeviceGetMigDeviceHandleByIndex(device from, unsigned index, device *out) {
    *out = &slice;
    return from == &card && index == 1 ? 0 : 6; /* the other places are empty */
}
int nvmlDeviceGetTemperature(device from, int sensor, unsigned *out) {
    if (from != &card || sensor != 0) return 2;
    *out = 61;
    return 0;
}
int nvmlDeviceGetPowerUsage(device from, unsigned *out) {
    *out = 650500;
    return from != &card;
}
int nvmlDeviceGetEnforcedPowerLimit(device from, unsigned *out) {
    (void)from; (void)out;
    return 3; /* as cards without power management answer */
}
int nvmlDeviceGetClockInfo(device from, int which, unsigned *out) {
    if (from != &card) return 2;
    *out = which == 1 ? 1755 : 2619;
    return 0;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(device from, unsigned long long *out) {
    *out = 0x4 | 0x2 | 0x20;
    return from != &card;
}
int nvmlDeviceGetCpuAffinity(device from, unsigned words, unsigned long *set) {
    if (from != &card || words != 16) return 2;
    set[0] = 0xf0; set[1] = 1;
    return 0;
}
int nvmlDeviceGetPersistenceMode(device from, unsigned *out) {
    *out = 0;
    return from != &card;
}
int nvmlDeviceGetEccMode(device from, unsigned *current, unsigned *pending) {
    *current = 0; *pending = 1;
    return from != &card;
}
int nvmlDeviceGetCurrPcieLinkGeneration(device from, unsigned *out) {
    *out = 4;
    return from != &card;
}
int nvmlDeviceGetMaxPcieLinkGeneration(device from, unsigned *out) {
    *out = 5;
    return from != &card;
}
int nvmlDeviceGetCurrPcieLinkWidth(device from, unsigned *out) {
    *out = 8;
    return from != &card;
}
int nvmlDeviceGetMaxPcieLinkWidth(device from, unsigned *out) {
    *out = 16;
    return from != &card;
}
int nvmlDeviceGetPerformanceState(device from, unsigned *out) {
    *out = 8;
    return from != &card;
}
