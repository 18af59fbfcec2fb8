/* Prints what its image says of it: the arguments, a variable, and a file of the directory that it starts in. */
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words)
{
    char line[80] = "";
    FILE *data = fopen("data.txt", "r");
    if (data == NULL || fgets(line, sizeof line, data) == NULL) {
        perror("data.txt");
        return 1;
    }
    printf("finished %s %s %s", getenv("MODE"), words[count - 1], line);
    return fclose(data) != 0;
}
