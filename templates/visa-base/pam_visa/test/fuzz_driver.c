/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeds a fuzz target without libFuzzer: every file of a corpus, then INPUTS mutations of them. The mutations
 * depend on their number only, so a failure comes back when the run is repeated; its input goes to ./failing-input.
 *
 *   fuzz_token CORPUS INPUTS
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

#define SEEDS_MAX 64
#define INPUT_MAX 1024

struct input {
    uint8_t bytes[INPUT_MAX];
    size_t size;
};

static struct input seeds[SEEDS_MAX], current;
static size_t seed_count;
static uint64_t state;

/* splitmix64: the whole sequence follows from `state`. */
static size_t below(size_t limit)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (size_t)((z ^ (z >> 31)) % limit);
}

static void load_seeds(const char *folder)
{
    DIR *directory = opendir(folder);
    const struct dirent *entry;
    char path[4096];

    while (directory != NULL && seed_count < SEEDS_MAX && (entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        FILE *file = fopen(path, "rb");
        if (file == NULL)
            continue;
        seeds[seed_count].size = fread(seeds[seed_count].bytes, 1, INPUT_MAX, file);
        seed_count++;
        fclose(file);
    }
    if (directory != NULL)
        closedir(directory);
}

static uint8_t some_byte(void)
{
    static const char telling[] = ";,=+/09AZaz-_ \n\r\t\0\xff";

    return below(4) == 0 ? (uint8_t)below(256) : (uint8_t)telling[below(sizeof telling)];
}

/* Replaces `cut` bytes at `at` by `size` bytes; what would not fit is left as it was. */
static void replace(size_t at, size_t cut, const uint8_t *bytes, size_t size)
{
    if (current.size - cut + size > INPUT_MAX)
        return;
    memmove(current.bytes + at + size, current.bytes + at + cut, current.size - at - cut);
    memmove(current.bytes + at, bytes, size);
    current.size += size - cut;
}

static void mutate(void)
{
    size_t at = below(current.size + 1), rest = current.size - at;
    const struct input *other = &seeds[below(seed_count)];
    size_t from = below(other->size + 1);
    uint8_t byte = some_byte();

    switch (below(5)) {
    case 0: replace(at, rest > 0, &byte, 1); break;
    case 1: replace(at, 0, &byte, 1); break;
    case 2: replace(at, below(rest + 1), &byte, 0); break;
    case 3: replace(at, below(rest + 1), other->bytes + from, below(other->size - from + 1)); break;
    default:
        if (rest > 0)
            current.bytes[at] ^= (uint8_t)(1U << below(8));
    }
}

/* The sanitizers end the process with SIGABRT too, so that save_input runs. */
const char *__asan_default_options(void)
{
    return "abort_on_error=1";
}

const char *__ubsan_default_options(void)
{
    return "abort_on_error=1";
}

static void save_input(int signal_number)
{
    int file = open("failing-input", O_WRONLY | O_CREAT | O_TRUNC, 0644);

    if (file >= 0 && write(file, current.bytes, current.size) == (ssize_t)current.size)
        close(file);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s CORPUS INPUTS\n", argv[0]);
        return 2;
    }
    load_seeds(argv[1]);
    if (seed_count == 0) {
        fprintf(stderr, "no corpus in %s\n", argv[1]);
        return 2;
    }
    signal(SIGABRT, save_input);
    for (size_t i = 0; i < seed_count; i++) {
        current = seeds[i];
        LLVMFuzzerTestOneInput(current.bytes, current.size);
    }
    uint64_t inputs = strtoull(argv[2], NULL, 10);
    for (uint64_t i = 0; i < inputs; i++) {
        state = i << 20;
        current = seeds[below(seed_count)];
        for (size_t steps = 1 + below(4); steps > 0; steps--)
            mutate();
        LLVMFuzzerTestOneInput(current.bytes, current.size);
    }
    printf("%zu seeds and %llu mutations passed\n", seed_count, (unsigned long long)inputs);
    return 0;
}
