/* How many cores this process may use: the affinity mask (taskset, Slurm, cpusets), cut by the CPU quota of
 * the control group it lives in and of every group above (containers, systemd). */
#include "base/threads.h"
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Cores in the affinity mask. The kernel refuses a mask that is too small for the machine, so it grows. */
static int affinity_cores(void)
{
    for (int cpus = 1024; cpus <= 1 << 17; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set) break;
        size_t size = CPU_ALLOC_SIZE((size_t)cpus);
        int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (count > 0) return count;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

/* Whole cores of one cpu.max file ("200000 100000" is 2, a started core counts); INT_MAX: no limit. */
static int quota_cores(const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f) return INT_MAX;
    long long quota = 0, period = 0;
    int fields = fscanf(f, "%lld %lld", &quota, &period); /* "max 100000" matches nothing */
    fclose(f);
    if (fields != 2 || quota <= 0 || period <= 0) return INT_MAX;
    long long cores = quota / period + (quota % period != 0);
    return cores < INT_MAX ? (int)cores : INT_MAX;
}

/* The smallest quota on the way from the process's group ("0::/a/b" in membership) up to the root of the
 * tree. */
static int group_cores(const char *membership, const char *root)
{
    char group[2048] = "", line[2048];
    FILE *f = fopen(membership, "re");
    if (!f) return INT_MAX;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        if (!strncmp(line, "0::", 3)) memcpy(group, line + 3, strlen(line + 3) + 1);
    }
    fclose(f);
    int cores = INT_MAX;
    for (;;) {
        char path[4096];
        snprintf(path, sizeof path, "%s%s/cpu.max", root, group);
        int here = quota_cores(path);
        if (here < cores) cores = here;
        char *slash = strrchr(group, '/');
        if (!slash) return cores;
        *slash = '\0';
    }
}

int su_cpu_count(void)
{
    int cores = affinity_cores(), quota = group_cores("/proc/self/cgroup", "/sys/fs/cgroup");
    if (quota < cores) cores = quota;
    return cores > 0 ? cores : 1;
}
