# The lessons in a container; your work stays in the folder that you mount:
#
#   docker build -t ftkit .
#   docker run --rm -p 127.0.0.1:8888:8888 -v "$PWD/lessons:/home/learner/lessons" ftkit
#   # with a GPU:
#   docker run --rm --gpus all -p 127.0.0.1:8888:8888 -v "$PWD/lessons:/home/learner/lessons" ftkit
#
# The address that it prints has the token. For the small torch without CUDA, build with
#   --build-arg PIP_ARGS="--extra-index-url ..."    (pytorch.org names the index of its CPU builds)
FROM python:3.12-slim
ARG PIP_ARGS=""
COPY . /src
RUN pip install --no-cache-dir $PIP_ARGS /src && rm -rf /src \
 && useradd --create-home learner && mkdir /home/learner/lessons \
 && chown learner /home/learner/lessons
USER learner
WORKDIR /home/learner/lessons
ENV FTKIT_HOME=/home/learner/lessons/.ftkit
EXPOSE 8888
# The port is open inside the container only; -p above says who reaches it from outside.
CMD ["ftkit", "lab", "ftkit-lessons", "--no-browser", "--ip", "0.0.0.0", "--port", "8888"]
