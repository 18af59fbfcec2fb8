/* A program whose checks are in a library: probe.c, with its main called probe_main. */
int probe_main(int argc, char **argv);

int main(int argc, char **argv) { return probe_main(argc, argv); }
